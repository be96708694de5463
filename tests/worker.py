"""One of several fairseq-train processes on the CPU, with torch's own wrapper where it is asked for.

Its `DistributedDataParallel` refuses device numbers on the CPU, and fairseq always passes some.
"""

import sys

from fairseq.models import distributed_fairseq_model
from fairseq_cli import train

if __name__ == "__main__":

    class OnTheCPU(distributed_fairseq_model.DistributedDataParallel):
        def __init__(self, module, device_ids=None, output_device=None, **kwargs):
            super().__init__(module, **kwargs)

    distributed_fairseq_model.DistributedDataParallel = OnTheCPU
    sys.exit(train.cli_main())
