"""Run `ddpm-evaluate` from a checkout."""

import sys

from ddpm_keras.cli.start import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
