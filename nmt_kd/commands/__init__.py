"""The commands of `nmt-kd`, one per file; `nmt_kd.cli` describes what each file defines."""
