"""Knowledge distillation for fairseq translation models: `fairseq-train --user-dir nmt_kd --criterion word_kd ...`.

Importing the package makes fairseq work on the installed torch and registers criteria and tasks.
"""

import importlib
import logging
import pkgutil

logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)  # it advertises tensorboardX at every start

import fairseq  # noqa: E402

from nmt_kd import errors  # noqa: E402
from nmt_kd.version import __version__ as __version__  # noqa: E402
from nmt_kd.version import check_fairseq_version  # noqa: E402

errors.show_user_errors_in_one_line()
check_fairseq_version(getattr(fairseq, "__version__", "of unknown version"))

from nmt_kd import compat  # noqa: E402  (another fairseq may lack what it imports)
from nmt_kd.checkpoints.literals import forbid_code_in_configurations  # noqa: E402
from nmt_kd.checkpoints.reading import make_fairseq_read_checkpoints_as_data  # noqa: E402

compat.apply()
make_fairseq_read_checkpoints_as_data()
forbid_code_in_configurations()

from nmt_kd import architectures, criterions, tasks  # noqa: E402, F401  (fairseq must be made to work first)

# A method is one file: whatever lies in criterions/ or tasks/ is registered, and no list has to be kept.
for package in (criterions, tasks):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
