"""This package's version and the fairseq it needs; imports nothing that an unsupported fairseq might lack."""

__version__ = "0.1.0"

SUPPORTED_FAIRSEQ = "0.12."


def check_fairseq_version(version: str) -> None:
    """Raise UserError unless `version` is one this package was written for."""
    from nmt_kd.errors import UserError  # here, so that the version can be read without importing the package

    if not version.startswith(SUPPORTED_FAIRSEQ):
        raise UserError(
            f"fairseq {version} is not supported: nmt_kd needs fairseq {SUPPORTED_FAIRSEQ}x; "
            "install it with: pip install fairseq-fixed==0.12.3.1"
        )
