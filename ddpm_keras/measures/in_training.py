"""`MeasureSamples`: how good samples are, as the training goes on."""

import keras
import numpy as np

from ddpm_keras.errors import InputError
from ddpm_keras.images import to_uint8
from ddpm_keras.measures.features import load_extractor
from ddpm_keras.measures.kernel_distance import kernel_distance
from ddpm_keras.measures.sliced_wasserstein import sliced_wasserstein

EXTRACTOR = "random:0"  # needs no download, and any two runs can be compared


class MeasureSamples(keras.callbacks.Callback):
    """Logs KID and SWD of EMA samples every few epochs, and in the last one.

    Put it before `Log`, `TensorBoard` and `Checkpoints`, which take the figures
    from the logs as `kid` and `swd`; in other epochs they are nan. It samples the same
    seeds each time by stochastic DPM-Solver++(2M), 20 steps: most of its cost. Of the
    real images at most twice as many as samples count, chosen at random.

    Args:
        real: uint8 images to compare with, `(num_images, height, width, channels)`.
        config: The `Config` of the run, of which `eval_every`, `eval_images` and `seed`
            count here.

    Raises:
        InputError: When there are fewer than 4 real images.
    """

    def __init__(self, real, config):
        super().__init__()
        self.every = config.eval_every
        self.num_images = config.eval_images
        self.seed = config.seed
        if len(real) < 4:
            raise InputError(
                "eval_every: measures need 4 images or more to compare with; there are "
                f"{len(real)}; use 0"
            )
        chosen = np.random.default_rng(config.seed).permutation(len(real))
        self.real = real[chosen[: 2 * config.eval_images]]
        self._extract = load_extractor(EXTRACTOR, real.shape[1:])
        self._features = self._extract(self.real)

    def on_epoch_end(self, epoch, logs=None):
        logs["kid"] = logs["swd"] = float("nan")
        last = epoch + 1 == self.params["epochs"]
        if (epoch + 1) % self.every and not last:
            return
        images = to_uint8(
            self.model.generate_images(
                self.num_images,
                sampler="dpmpp",
                eta=1.0,
                seed=self.seed,
                verbose=0,
            )
        )
        logs["kid"] = kernel_distance(self._features, self._extract(images)).mean
        n = min(len(images), len(self.real))
        logs["swd"] = sliced_wasserstein(self.real[:n], images[:n])["mean"]
