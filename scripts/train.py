"""Run `ddpm-train` from a checkout."""

import sys

from ddpm_keras.cli.start import train

if __name__ == "__main__":
    sys.exit(train())
