"""Run `ddpm-sample` from a checkout."""

import sys

from ddpm_keras.cli.start import sample

if __name__ == "__main__":
    sys.exit(sample())
