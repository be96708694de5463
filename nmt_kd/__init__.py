"""Knowledge distillation for fairseq translation models: `fairseq-train --user-dir nmt_kd --criterion word_kd ...`.

fairseq's `--user-dir` only imports this package, so importing it does all the work: it checks the version of fairseq,
fixes fairseq for the installed torch, makes it answer wrong input with one line and read checkpoints and configurations
as data, and registers the architectures, criterions and tasks. The order of the imports matters: each step relies on
the ones before it.
"""

import importlib
import logging
import pkgutil

logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)  # else it logs about tensorboardX

import fairseq  # noqa: E402

from nmt_kd import errors  # noqa: E402
from nmt_kd.version import __version__ as __version__  # noqa: E402
from nmt_kd.version import check_fairseq_version  # noqa: E402

errors.show_user_errors_in_one_line()
check_fairseq_version(getattr(fairseq, "__version__", "of unknown version"))

from nmt_kd import command_lines, compat, wrong_input  # noqa: E402  (these import names that old versions lack)
from nmt_kd.checkpoints.literals import forbid_code_in_configurations  # noqa: E402
from nmt_kd.checkpoints.reading import make_fairseq_read_checkpoints_as_data  # noqa: E402

compat.apply()
command_lines.apply()
wrong_input.apply()
make_fairseq_read_checkpoints_as_data()
forbid_code_in_configurations()

from nmt_kd import architectures, criterions, student_architectures, tasks  # noqa: E402, F401  (need the fixed fairseq)

# fairseq registers a criterion or task when its module is imported, so importing every file needs no list of methods.
for package in (criterions, tasks):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
