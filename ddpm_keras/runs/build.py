"""Compiled models and optimizers built from a configuration."""

import keras

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import InputError
from ddpm_keras.model import DiffusionModel
from ddpm_keras.networks import build_network
from ddpm_keras.optimizers import Adam


def check_names(config):
    """Check the names of Keras objects in a configuration, before anything slow.

    Raises:
        InputError: When Keras has no such activation or optimizer.
    """
    for key, get, example in (
        ("activation", keras.activations.get, "swish"),
        ("optimizer", keras.optimizers.get, "adam"),
    ):
        name = getattr(config, key)
        try:
            get(name)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{key}: Keras has no {name!r}; use a name such as {example}"
            ) from error


def build_model(config):
    """Return the compiled `DiffusionModel` of a `Config`, initialised with its seed."""
    keras.utils.set_random_seed(config.seed)
    policy = keras.config.dtype_policy()
    if config.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{config.mixed_precision}")
    try:
        network = build_network(config)
        diffusion = GaussianDiffusion(**config.diffusion_arguments())
        model = DiffusionModel(
            network, diffusion=diffusion, ema=config.ema, seed=config.seed, name="ddpm"
        )
        model.compile(loss=config.loss, optimizer=build_optimizer(config))
    finally:
        keras.config.set_dtype_policy(policy)
    return model


def build_optimizer(config):
    """Return the Keras optimizer of a `Config`."""
    rate, steps = config.learning_rate, config.learning_rate_warmup_steps
    if steps:  # an upward decay from the first step's rate
        rate = keras.optimizers.schedules.PolynomialDecay(rate / steps, steps, rate)
    accumulated = config.gradient_accumulation_steps
    kind = type(keras.optimizers.get(config.optimizer))
    return (Adam if kind is keras.optimizers.Adam else kind)(
        learning_rate=rate,
        global_clipnorm=config.grad_clip,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
    )
