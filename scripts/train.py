"""Run `ddpm-train` from a checkout."""

import sys

from ddpm_keras.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
