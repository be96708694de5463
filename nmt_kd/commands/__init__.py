"""The commands of `nmt-kd`, a file each; see `nmt_kd.cli` for what a file has."""
