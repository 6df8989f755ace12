"""Compiled models and optimizers built from a configuration."""

import keras

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError, InputError
from ddpm_keras.metrics import efficientnet
from ddpm_keras.model import DiffusionModel
from ddpm_keras.networks import build_network
from ddpm_keras.networks.layers import check_activation
from ddpm_keras.optimizers import Adam, Muon, Nadam, WarmupDecay

# In the place of Keras' own.
OURS = {getattr(keras.optimizers, kind.__name__): kind for kind in (Adam, Muon, Nadam)}


def check_names(config):
    """Check the names of objects in a configuration, before anything slow.

    Raises:
        InputError: When Keras has no such activation or optimizer, or a package of
            `eval_features` is missing.
    """
    if config.eval_every and config.eval_features == efficientnet.NAME:
        try:
            efficientnet.check_installed()
        except InputError as error:
            raise InputError(f"eval_features: {error}") from error
    for key, check, kind, example in (
        ("activation", check_activation, " that keeps shapes", "swish"),
        ("optimizer", keras.optimizers.get, "", "adam"),
    ):
        name = getattr(config, key)
        try:
            check(name)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{key}: Keras has no {name!r}{kind}; use a name such as {example}"
            ) from error


def build_model(config, num_steps=None):
    """Return the compiled `DiffusionModel` of a `Config`, initialised with its seed.

    Args:
        config: The `Config`.
        num_steps: Steps of the whole training; only `learning_rate_decay` needs it.
    """
    keras.utils.set_random_seed(config.seed)
    policy = keras.config.dtype_policy()
    if config.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{config.mixed_precision}")
    try:
        network = build_network(config)
        diffusion = GaussianDiffusion(**config.diffusion_arguments())
        model = DiffusionModel(
            network,
            diffusion=diffusion,
            ema=config.ema,
            seed=config.seed,
            snr_gamma=config.snr_gamma,
            ema_warmup_power=config.ema_warmup_power,
            augment=config.augment,
            label_dropout=config.label_dropout,
            name="ddpm",
        )
        model.compile(loss=config.loss, optimizer=build_optimizer(config, num_steps))
    finally:
        keras.config.set_dtype_policy(policy)
    return model


def has_fixed_rate(config):
    """Whether the learning rate is the same in every step."""
    return (
        not config.learning_rate_warmup_steps and config.learning_rate_decay == "none"
    )


def build_optimizer(config, num_steps=None):
    """Return the Keras optimizer of a `Config`; `num_steps` as in `build_model`."""
    rate = config.learning_rate
    if not has_fixed_rate(config):
        warmup, decay = config.learning_rate_warmup_steps, config.learning_rate_decay
        try:
            rate = WarmupDecay(rate, warmup, decay, num_steps)
        except ArgumentError as error:
            raise InputError(f"{error.keys[0]}: {error}") from error
    accumulated = config.gradient_accumulation_steps
    kind = type(keras.optimizers.get(config.optimizer))
    return OURS.get(kind, kind)(
        learning_rate=rate,
        global_clipnorm=config.grad_clip,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
    )
