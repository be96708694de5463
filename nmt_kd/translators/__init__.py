"""Teachers that translate plain text, one file for each kind; `nmt_kd.translators.opening` says what a file defines."""
