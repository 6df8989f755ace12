"""Run `ddpm-convert` from a checkout."""

import sys

from ddpm_keras.cli.start import convert

if __name__ == "__main__":
    sys.exit(convert())
