"""Bits per dimension: the variational bound on a model's likelihood.

Notation, after Ho et al. 2020 (https://arxiv.org/abs/2006.11239), equation 5, in bits
per dimension, which are nats / (ln 2 * height * width * channels):

    L_t, t > 0    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))
    L_0           -log p(x_0 | x_1), by the discretised decoder (section 3.3)
    prior         KL(q(x_T | x_0) || N(0, 1)), which no network changes

Their sum bounds -log2 p(x_0) / dimensions from above. t counts from 0, as everywhere in
this package.
"""

import contextlib
import dataclasses

import numpy as np
from keras import ops

from ddpm_keras.backend import compile_calls
from ddpm_keras.data.batches import full_batches
from ddpm_keras.data.pixels import to_float
from ddpm_keras.diffusion import take_at
from ddpm_keras.errors import require
from ddpm_keras.progress import Progress
from ddpm_keras.samplers import VARIANCES


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """The bound of each image, in bits per dimension.

    Attributes:
        terms: Dict from each variance to an array of shape `(num_images, timesteps)`,
            with L_t in column t.
        prior: Array of shape `(num_images,)`.
    """

    terms: dict
    prior: np.ndarray

    def total(self, variance="posterior"):
        """Return the bound of each image, a float64 array of shape `(num_images,)`."""
        return self.terms[variance].sum(1) + self.prior


class VariationalBound:
    """The bound on the likelihood of images under a diffusion model.

    One call of the network per image and timestep gives the terms for both fixed
    variances of Ho et al. 2020, section 3.2: `"posterior"` ("fixed small") and `"beta"`
    ("fixed large"). At t = 0, where the posterior's variance is 0 and a likelihood
    would be meaningless, both use its value at t = 1.

    Args:
        denoiser: The `Denoiser` of the model.

    Reference:
        - [Ho et al., 2020](https://arxiv.org/abs/2006.11239), section 3.3
        - [Nichol and Dhariwal, 2021](https://arxiv.org/abs/2102.09672): decoder,
          variance at t = 0 and clipping follow their code
    """

    def __init__(self, denoiser):
        self.denoiser = denoiser
        self.diffusion = diffusion = denoiser.diffusion
        posterior, betas = diffusion.posterior_variance, diffusion.betas
        # With a single step, beta is the only variance there is.
        first = posterior[1] if len(posterior) > 1 else betas[0]
        self._log_variances = {
            name: np.float32(np.log(np.float64(np.append(first, table[1:]))))
            for name, table in {"posterior": posterior, "beta": betas}.items()
        }
        self._compiled_terms = compile_calls(self._terms, denoiser)

    def terms(self, images, t, noise, labels=None):
        """Compute L_t of each image.

        Args:
            images: Clean images of shape `(batch, height, width, channels)`, with
                values k / 127.5 - 1 for integers k from 0 to 255.
            t: Timesteps, shape `(batch,)`.
            noise: Standard normal noise of the images' shape, from which x_t is made.
            labels: Class of each image, shape `(batch,)`. Default: no labels.

        Returns:
            A dict with a float32 array of shape `(batch,)` for each of `VARIANCES`.
        """
        tensors = (
            ops.convert_to_tensor(images, "float32"),
            ops.convert_to_tensor(t, "int32"),
            ops.convert_to_tensor(noise, "float32"),
            None if labels is None else ops.convert_to_tensor(labels, "int32"),
        )
        terms = ops.convert_to_numpy(self._compiled_terms(*tensors))
        return dict(zip(VARIANCES, terms, strict=True))

    def prior(self, images):
        """Return the prior term of each image, a float64 array of shape `(batch,)`."""
        abar = self.diffusion.alphas_cumprod_float64[-1]
        square = abar * np.square(np.asarray(images, "float64"))
        return _bits(np.mean(0.5 * (square - abar - np.log1p(-abar)), (1, 2, 3)))

    def measure(self, images, seed=0, batch_size=64, verbose=1, labels=None):
        """Compute the whole bound of images, over every timestep.

        The noise of image k at timestep t depends on `seed`, k and t alone, and is the
        same on all backends.

        Args:
            images: uint8 array of shape `(num_images, height, width, channels)`.
            seed: Seed of the noise, 0 or more.
            batch_size: Images computed together.
            verbose: 1 shows progress over timesteps, 0 does not.
            labels: Class of each image, an int array, which makes the bound one on
                p(x_0 | label). Default: no labels.

        Returns:
            A `Likelihood`.

        Raises:
            ArgumentError: When there is no image, or the images are not uint8.
        """
        images = np.asarray(images)
        require(
            images.dtype == np.uint8 and len(images) > 0,
            "`images` must be one or more images as uint8.",
            dtype=str(images.dtype),
            shape=images.shape,
        )
        timesteps = self.diffusion.timesteps
        batches = full_batches(len(images), batch_size)
        terms = {name: np.zeros((len(images), timesteps)) for name in VARIANCES}
        prior, shape = np.zeros(len(images)), images.shape[1:]
        what, total = "bits per dimension", len(batches) * timesteps
        progress = Progress(what, total, "steps", show=bool(verbose))
        with contextlib.closing(progress):
            for number, (some, places) in enumerate(batches, 1):
                count = some.stop - some.start
                batch = to_float(images[places])
                prior[some] = self.prior(batch)[:count]
                known = None if labels is None else labels[places]
                generators = [np.random.default_rng((seed, k)) for k in places]
                for t in reversed(range(timesteps)):
                    draws = [g.standard_normal(shape, "float32") for g in generators]
                    t_of_all = np.full(len(batch), t)
                    at_t = self.terms(batch, t_of_all, np.stack(draws), known)
                    for name, values in at_t.items():
                        terms[name][some, t] = values[:count]
                    progress.update(number * timesteps - t)
        return Likelihood(terms, prior)

    def _terms(self, images, t, noise, labels):
        diffusion = self.diffusion
        noisy_images = diffusion.q_sample(images, t, noise)
        x_start = self.denoiser(noisy_images, t, labels)
        x_start = ops.clip(x_start, diffusion.clip_min, diffusion.clip_max)
        mean, _, _ = diffusion.q_posterior(x_start, noisy_images, t)
        true_mean, _, _ = diffusion.q_posterior(images, noisy_images, t)
        true_log_variance = take_at(self._log_variances["posterior"], t)
        is_first = ops.reshape(t, (-1, 1, 1, 1)) == 0
        results = []
        for name in VARIANCES:
            log_variance = take_at(self._log_variances[name], t)
            divergence = gaussian_divergence(
                true_mean, true_log_variance, mean, log_variance
            )
            decoder = -discretised_log_likelihood(images, mean, 0.5 * log_variance)
            nats = ops.where(is_first, decoder, divergence)
            results.append(_bits(ops.mean(nats, axis=(1, 2, 3))))
        return ops.stack(results)


def gaussian_divergence(mean_1, log_variance_1, mean_2, log_variance_2):
    """Return KL(N(mean_1, variance_1) || N(mean_2, variance_2)), in nats per value."""
    difference = log_variance_1 - log_variance_2
    return 0.5 * (
        ops.expm1(difference)
        - difference
        + ops.square(mean_1 - mean_2) * ops.exp(-log_variance_2)
    )


def discretised_log_likelihood(images, mean, log_scale):
    """Return the log probability of pixels under a binned Gaussian (equation 13).

    The bin of a pixel extends half a grey level, 1/255, to either side; the bins of
    black and white extend to infinity.

    Args:
        images: Values k / 127.5 - 1 for integers k from 0 to 255.
        mean: The Gaussian's mean, in the images' shape.
        log_scale: Logarithm of its standard deviation.

    Returns:
        Nats, in the images' shape; never below log(1e-12).
    """
    scale = ops.exp(-log_scale)
    above = _normal_cdf(scale * (images - mean + 1.0 / 255.0))
    below = _normal_cdf(scale * (images - mean - 1.0 / 255.0))
    # Half a grey level inside the ends, to allow for float32 rounding.
    above = ops.where(images > 1.0 - 1.0 / 255.0, 1.0, above)
    below = ops.where(images < -1.0 + 1.0 / 255.0, 0.0, below)
    return ops.log(ops.maximum(above - below, 1e-12))


def _normal_cdf(x):
    # The papers' tanh formula, off by less than 4e-4, so that results match theirs.
    return 0.5 * (1.0 + ops.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def _bits(nats):
    return nats / np.log(2.0)
