"""Files that survive a crash: atomic writes, manifests, and folders that workers fill block by block."""
