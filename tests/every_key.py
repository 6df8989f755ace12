"""A tiny configuration with every key on, and five steps of it with given draws.

`python tests/every_key.py FILE` writes the steps as golden numbers.
"""

import sys
from unittest import mock

import keras
import numpy as np

from ddpm_keras.augmentation import NUM_NORMAL, NUM_UNIFORM
from ddpm_keras.config import Config
from ddpm_keras.data.flowers import SHAPES, draw_labelled_flowers
from ddpm_keras.runs.build import build_model

KEYS = {
    "dataset_name": "petals",
    "num_images": 16,
    "img_size": 8,
    "batch_size": 4,
    "first_conv_channels": 4,
    "channel_multiplier": [1],
    "has_attention": [True],
    "num_res_blocks": 1,
    "norm_groups": 2,
    "patch_size": 2,
    "prediction_type": "v_prediction",
    "schedule": "cosine",
    "schedule_shift": 0.5,
    "rescale_zero_terminal_snr": True,
    "snr_gamma": 5.0,
    "augment": 0.2,
    "class_labels": True,
    "label_dropout": 0.3,
    "learning_rate": 0.001,
    "learning_rate_warmup_steps": 2,
    "learning_rate_decay": "cosine",
    "ema_warmup_power": 0.75,
    "grad_clip": 1.0,
    "seed": 11,
}


def five_steps():
    """Train five steps; return their losses and the weights of both networks.

    All random numbers are NumPy's, since backends draw different ones from a seed.
    """
    config = Config(**KEYS, class_names=list(SHAPES))
    model = take_draws(build_model(config, num_steps=5))
    rng = np.random.default_rng(0)
    for network in (model.network, model.ema_network):
        network.set_weights(
            [
                (w.name == "gamma") + rng.normal(0.0, 0.2, w.shape)
                for w in network.weights
            ]
        )
    images, labels = draw_labelled_flowers(20, 8)
    images = images.astype("float32") / 127.5 - 1.0
    losses = []
    for some in np.arange(20).reshape(5, 4):
        draws = (
            rng.random((4, NUM_UNIFORM), "float32"),
            rng.standard_normal((4, NUM_NORMAL), "float32"),
            rng.random(4, "float32"),  # whose label is hidden
            rng.integers(0, 1000, 4, "int32"),
            rng.standard_normal((4, 8, 8, 3), "float32"),
        )
        model.reset_metrics()
        loss = model.train_on_batch(
            images[some], {"labels": labels[some], "draws": draws}
        )
        losses.append(float(loss))
    return {
        "losses": np.float32(losses),
        "network": _flat(model.network),
        "ema_network": _flat(model.ema_network),
    }


def take_draws(model):
    """Have a model take the draws of a step, in their order, from its batch."""
    add_noise = model.add_noise

    def add_given_noise(data, seeds, training=True):
        images, given, *_ = data
        draws = iter(given["draws"])

        def draw(shape, *args, **options):
            number = next(draws)
            assert tuple(number.shape) == tuple(shape)
            return number

        names = ("uniform", "normal", "randint")
        with mock.patch.multiple(keras.random, **dict.fromkeys(names, draw)):
            noisy = add_noise((images, given["labels"]), seeds, training)
        assert next(draws, None) is None
        return noisy

    model.add_noise = add_given_noise
    return model


def _flat(network):
    return np.concatenate([array.ravel() for array in network.get_weights()])


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **five_steps())
