"""The callback that measures samples during a training."""

import keras
import numpy as np

from ddpm_keras.data.pixels import to_uint8
from ddpm_keras.errors import InputError
from ddpm_keras.labels import random_labels
from ddpm_keras.metrics.features import load_extractor
from ddpm_keras.metrics.kid import kernel_distance
from ddpm_keras.metrics.whitening import whitening
from ddpm_keras.runs.grids import is_turn


class MeasureSamples(keras.callbacks.Callback):
    """Logger of KID of EMA samples, every few epochs and in the last one.

    It writes `kid` to the logs, NaN in other epochs: put it before `Log`,
    `TensorBoard` and `Checkpoints`. It samples the same seeds each time in 20 steps of
    stochastic DPM-Solver++(2M), which is most of its cost, and compares them with at
    most twice as many real images, chosen at random.

    Args:
        real: `Images` to compare with; samples have labels as often as these.
        config: The `Config` of the run; uses `seed`, `sample_until` and the keys of
            `eval_`.

    Attributes:
        name: What its `kid` is. Those of other features cannot be compared with it.

    Raises:
        InputError: When there are fewer than 4 real images.
    """

    def __init__(self, real, config):
        super().__init__()
        self.every = config.eval_every
        self.num_images = config.eval_images
        self.until = config.sample_until
        self.seed = config.seed
        if len(real) < 4:
            raise InputError(
                "eval_every: measures need 4 images or more to compare with; there are "
                f"{len(real)}; use 0"
            )
        chosen = np.random.default_rng(config.seed).permutation(len(real))
        self.real = real.pixels[chosen[: 2 * config.eval_images]]
        self.labels = None
        if real.labels is not None:
            counts = np.bincount(real.labels, minlength=len(real.names))
            seeds = range(config.seed, config.seed + config.eval_images)
            self.labels = random_labels(seeds, counts)
        self._extract = load_extractor(config.eval_features, self.real.shape[1:])
        self._whiten = None
        self.name = f"kid of {config.eval_features}"
        if self._extract.whitens:
            self.name += ", whitened"
            self._whiten = whitening(self._extract(self.real))
        self._features = self._features_of(self.real)

    def on_epoch_end(self, epoch, logs=None):
        logs["kid"] = float("nan")
        if not is_turn(self, epoch):
            return
        options = {"sampler": "dpmpp", "eta": 1.0, "until": self.until}
        options |= {"seed": self.seed, "labels": self.labels}
        images = to_uint8(self.model.generate_images(self.num_images, **options))
        logs["kid"] = kernel_distance(self._features, self._features_of(images)).mean

    def _features_of(self, images):
        features = self._extract(images)
        return self._whiten(features) if self._whiten else features
