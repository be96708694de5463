"""Files that survive a crash: atomic writes, manifests, and folders filled block by block."""
