"""Add noise to text, one sentence per line, such as a test set to measure how robust students are.

    python scripts/noise.py --noise-upper-case 0.07 --noise-typos 0.05 < test.en > test_noisy.en

The noise is that of nmt-kd decode and nmt-kd assemble; each sentence's depends on the seed and its line number alone.
"""

import argparse
import sys
from dataclasses import asdict

from nmt_kd.decoding.noise import Noise
from nmt_kd.options import add_flags, check_options, values_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, Noise)
    parser.add_argument("--seed", type=int, default=1, help="seed of the noise (default: 1)")
    args = parser.parse_args()
    noise = Noise(**values_of(Noise, args))
    check_options(asdict(noise), Noise)
    for number, line in enumerate(sys.stdin.buffer):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise SystemExit(f"noise.py: error: line {number + 1} is not UTF-8; convert the text to UTF-8") from None
        sys.stdout.buffer.write((noise(text, args.seed, number) + "\n").encode())


if __name__ == "__main__":
    main()
