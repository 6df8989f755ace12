"""Run `ddpm-convert` from a checkout."""

import sys

from ddpm_keras.cli.convert import main

if __name__ == "__main__":
    sys.exit(main())
