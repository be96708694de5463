"""A stand-in for torch while scripts/setup.sh builds fairseq, which has no wheel for Python 3.11.

fairseq's setup.py uses torch to compile three extensions that no encoder-decoder in fairseq's translation task uses:
`libbase` (BASE layers), `libnat` (Levenshtein transformers) and `alignment_train` (simultaneous translation). They take
about nine tenths of the build time. With this module on the path, the build does not need torch and skips them.
"""

from setuptools import Extension
from setuptools.command.build_ext import build_ext


class CppExtension(Extension):
    """An extension that includes torch's headers."""


class BuildExtension(build_ext):
    """Build every extension except those that include torch's headers."""

    def finalize_options(self):
        extensions = self.distribution.ext_modules
        self.distribution.ext_modules = [item for item in extensions if not isinstance(item, CppExtension)]
        super().finalize_options()
