"""Train a diffusion model from a configuration file.

Examples:
    ddpm-train --config demo
    ddpm-train --config configs/flowers64.yaml --num_epochs 100
    ddpm-train --run-dir runs/flowers64/001 --resume
"""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ddpm_keras.cli.command import command, import_keras, new_parser, parse_args
from ddpm_keras.cli.config_flags import add_config_flags, overrides_from
from ddpm_keras.cli.flags import find_config, shipped_configs
from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.data import check_data_set
from ddpm_keras.data.cache import clear_cache
from ddpm_keras.errors import InputError
from ddpm_keras.files import expand_home
from ddpm_keras.networks import check_memory
from ddpm_keras.runs.folder import (
    CONFIG,
    discard_unused,
    make_run_folder,
    resume_run_folder,
)
from ddpm_keras.weights import find_weights


@command
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_flags(argv)
    if args.clear_cache:
        config = args.config and load_config(args.config)
        folder = args.cache_dir or (config and config.cache_dir)
        print(clear_cache(folder and expand_home(folder)))
        return 0
    config = load_config(args.config, overrides_from(args))
    if args.dry_run:
        print(config.to_yaml(), end="")
        return 0
    check(config)
    if args.resume:
        folder = resume_run_folder(config, args.run_dir)
    else:
        if config.initial_weights:
            find_weights(config.initial_weights)
        folder = make_run_folder(config, args.config.stem, args.run_dir)

    try:
        import_keras()
        from ddpm_keras.runs.checkpoint import lock
        from ddpm_keras.runs.train import train

        with lock(folder):
            return train(config, folder)
    finally:
        if not args.resume:
            discard_unused(folder)


def parse_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the flags; `config` becomes a path."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        type=expand_home,
        help="a YAML file, or the name of a configuration that ships: "
        f"{', '.join(shipped_configs())} (default with --resume: the run's own)",
    )
    add(
        "--run-dir",
        metavar="DIR",
        type=expand_home,
        help="the run's folder (default: the next free runs/NAME/001, 002, ..., where "
        "NAME is the configuration's)",
    )
    add("--resume", action="store_true", help="resume the run in --run-dir")
    add("--dry-run", action="store_true", help="print the configuration and exit")
    add(
        "--clear-cache",
        action="store_true",
        help="remove all images from the cache on disk (--cache_dir) and exit",
    )
    add_config_flags(parser)
    args = parse_args(parser, argv)
    if args.resume and args.run_dir is None:
        raise InputError("--resume: name the run's folder with --run-dir")
    if args.config is not None:
        args.config = find_config(args.config)
    elif args.resume:
        args.config = Path(args.run_dir, CONFIG)
    elif not args.clear_cache:
        names = ", ".join(shipped_configs())
        raise InputError(f"--config: name a YAML file, or one that ships: {names}")
    return args


def check(config: Config) -> None:
    """Raise an `InputError` for what would fail after Keras is imported."""
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError(
            "tensorboard: its package is not installed; run pip install tensorboard, "
            "or leave the key out"
        )
    check_memory(config, config.batch_size, training=True)
    check_data_set(config)
