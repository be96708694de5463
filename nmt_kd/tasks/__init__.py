"""Tasks that fairseq's commands can be given with --task."""
