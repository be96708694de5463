"""The version of this package and of the fairseq it needs. Imports nothing that an unsupported fairseq may lack."""

__version__ = "0.1.0"

SUPPORTED_FAIRSEQ = "0.12."


def check_fairseq_version(version: str) -> None:
    """Raise UserError unless `version` is a supported version of fairseq."""
    from nmt_kd.errors import UserError  # not at the top, so that setuptools can read the version without the package

    if not version.startswith(SUPPORTED_FAIRSEQ):
        raise UserError(
            f"fairseq {version} is not supported: nmt_kd needs fairseq {SUPPORTED_FAIRSEQ}x; "
            "install it with: pip install fairseq-fixed==0.12.3.1"
        )
