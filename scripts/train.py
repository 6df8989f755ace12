"""Train a diffusion model from a configuration file.

Examples:
    python scripts/train.py --config configs/flowers64.yaml --num_epochs 100
    python scripts/train.py --run-dir runs/flowers64/001 --resume
"""

import argparse
import importlib.util
import sys
from pathlib import Path

from ddpm_keras.config import add_config_flags, load_config, overrides_from
from ddpm_keras.errors import InputError, parse_args, run_command
from ddpm_keras.run_folder import (
    CONFIG,
    discard_unused,
    make_run_folder,
    resume_run_folder,
)


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration, a YAML file (with --resume: the run's own)",
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="the folder of the run (default: runs/NAME/001 and so on, where NAME is "
        "the configuration's)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --run-dir as if it had not stopped",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved configuration and stop",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    add_config_flags(parser)
    args = parse_args(parser, argv)
    if args.resume and args.run_dir is None:
        raise InputError("--resume: name the run's folder with --run-dir")
    if args.config is None:
        if not args.resume:
            raise InputError("--config: name the configuration, a YAML file")
        args.config = Path(args.run_dir, CONFIG)
    return args


def main(argv=None):
    args = parse(argv)
    config = load_config(args.config, overrides_from(args))
    if args.dry_run:
        print(config.to_yaml(), end="")
        return 0
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError(
            "tensorboard: its package is not installed; run pip install tensorboard, "
            "or leave the key out"
        )
    from ddpm_keras.data import check_data_set
    from ddpm_keras.weights import find_weights

    check_data_set(config)
    if args.resume:
        folder = resume_run_folder(config, args.run_dir)
    else:
        if config.initial_weights:
            find_weights(config.initial_weights)
        folder = make_run_folder(config, Path(args.config).stem, args.run_dir)

    # Loaded only now: a mistake above is told at once, not after seconds.
    from ddpm_keras.checkpoint import lock
    from ddpm_keras.training import train

    try:
        with lock(folder):
            return train(config, folder)
    finally:
        if not args.resume:
            discard_unused(folder)


if __name__ == "__main__":
    sys.exit(run_command(main))
