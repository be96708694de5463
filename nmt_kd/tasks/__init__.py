"""Tasks for fairseq's --task."""
