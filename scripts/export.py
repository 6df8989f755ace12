"""Run `ddpm-export` from a checkout."""

import sys

from ddpm_keras.cli.start import export

if __name__ == "__main__":
    sys.exit(export())
