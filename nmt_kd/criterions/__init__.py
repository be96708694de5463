"""The distillation methods, one file each: what a method needs, which losses it combines, and with which weights."""
