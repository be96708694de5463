"""Opens the teacher that the user names.

Each file in `nmt_kd/translators` that defines `recognises` is a kind of teacher and needs no registration:

    WHAT                 what a user gives for it, for messages
    USES                 the names of the options in `TeacherOptions` that it uses besides those of every kind
    recognises(teacher)  tells whether --teacher names one; no two kinds recognise the same
    open_teacher(options)  returns its `Translator`; raises UserError
"""

import importlib
import pkgutil
from types import ModuleType

from nmt_kd import translators
from nmt_kd.errors import UserError
from nmt_kd.translators.translator import TeacherOptions, Translator

OPTIONAL = ("data", "subword_model", "target_subword_model")


def kinds() -> list[ModuleType]:
    """Return the modules that define a kind of teacher."""
    names = [module.name for module in pkgutil.iter_modules(translators.__path__, f"{translators.__name__}.")]
    modules = [importlib.import_module(name) for name in names]
    return [module for module in modules if hasattr(module, "recognises")]


def open_translator(options: TeacherOptions) -> Translator:
    """Return the teacher that `options` name; UserError if there is none, or an option does not apply to it."""
    options.search.check()
    for kind in kinds():
        if kind.recognises(options.teacher):
            for name in OPTIONAL:
                if getattr(options, name) is not None and name not in kind.USES:
                    flag = "--" + name.replace("_", "-")
                    raise UserError(f"{flag} does not apply to {options.teacher}, which is {kind.WHAT}; leave it out")
            return kind.open_teacher(options)
    known = "; ".join(kind.WHAT for kind in kinds())
    raise UserError(f"{options.teacher} is not a teacher that nmt-kd can use; give one of these: {known}")
