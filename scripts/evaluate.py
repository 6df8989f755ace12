"""Run `ddpm-evaluate` from a checkout."""

import sys

from ddpm_keras.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
