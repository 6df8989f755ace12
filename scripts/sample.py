"""Run `ddpm-sample` from a checkout."""

import sys

from ddpm_keras.cli.sample import main

if __name__ == "__main__":
    sys.exit(main())
