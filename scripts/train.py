"""Train a diffusion model from a configuration file.

Example:
    python scripts/train.py --config configs/flowers64.yaml --num_epochs 100
"""

import argparse
import importlib.util
import sys
from pathlib import Path

from ddpm_keras.config import add_config_flags, load_config, overrides_from, parse_args
from ddpm_keras.errors import InputError, run_command


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--config", metavar="FILE", required=True, help="the configuration, a YAML file"
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="a new folder for the run (default: runs/NAME/001 and so on, where NAME "
        "is the configuration's)",
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
    return parse_args(parser, argv)


def main(argv=None):
    args = parse(argv)
    config = load_config(args.config, overrides_from(args))
    if args.dry_run:
        print(config.to_yaml(), end="")
        return
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError(
            "tensorboard: its package is not installed; run pip install tensorboard, "
            "or leave the key out"
        )

    # Loaded only now: a mistake above is told at once, not after seconds.
    import keras

    from ddpm_keras.callbacks import SampleGrid, SaveWeights
    from ddpm_keras.data import (
        load_images,
        make_batches,
        make_validation_batches,
        split_images,
    )
    from ddpm_keras.diffusion import GaussianDiffusion
    from ddpm_keras.model import DiffusionModel
    from ddpm_keras.run_folder import make_run_folder
    from ddpm_keras.unet import build_unet
    from ddpm_keras.weights import RUN_WEIGHTS

    keras.utils.set_random_seed(config.seed)
    try:
        keras.activations.get(config.activation)
        optimizer = keras.optimizers.get(config.optimizer)
        optimizer.learning_rate = config.learning_rate
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"activation, optimizer: Keras has no {config.activation!r} or no "
            f"{config.optimizer!r}; use names such as swish and adam"
        ) from error

    # Data.
    images = load_images(config)
    train_images, held_out = split_images(
        images, config.validation_fraction, config.seed
    )
    batches, steps_per_epoch = make_batches(
        train_images,
        config.batch_size,
        config.num_epochs,
        seed=config.seed,
        random_flip=config.random_flip,
    )
    validation = None
    if len(held_out):
        validation = make_validation_batches(held_out, config.batch_size)
    print(f"data: {len(train_images):,} images to train on, {len(held_out):,} held out")

    # Network, diffusion, model.
    network = build_unet(**config.unet_arguments())
    diffusion = GaussianDiffusion(**config.diffusion_arguments())
    model = DiffusionModel(
        network, None, diffusion, ema=config.ema, seed=config.seed, name="ddpm"
    )
    model.compile(loss=config.loss, optimizer=optimizer)
    print(f"network: {network.count_params():,} parameters")

    # The run's folder: configuration, log, pictures, weights.
    run = make_run_folder(config, Path(args.config).stem, args.run_dir)
    print(f"run: {run}")
    grids = SampleGrid(
        run / "samples",
        every=config.sample_every,
        num_images=config.num_samples,
        seed=config.seed,
        sampler=config.sampler,
        steps=config.sample_steps,
    )
    callbacks = [
        keras.callbacks.CSVLogger(str(run / "log.csv")),
        SaveWeights(run / RUN_WEIGHTS, config, every=config.save_every),
        grids,
    ]
    if config.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(run / "tensorboard")))

    model.fit(
        batches,
        epochs=config.num_epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation,
        callbacks=callbacks,
        shuffle=False,  # `make_batches` has done so
        verbose=1 if sys.stdout.isatty() else 2,
    )
    print(f"weights: {run / RUN_WEIGHTS}")
    if config.sample_every:
        print(f"samples: {grids.path(config.num_epochs)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
