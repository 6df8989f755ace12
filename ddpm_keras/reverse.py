"""Runs a sampler's steps over the network, compiled once, for many images at a time."""

from numbers import Integral

import keras
import numpy as np
from keras import ops

from ddpm_keras.batches import full_batches
from ddpm_keras.samplers import make_steps


class ReverseProcess:
    """Turns noise into images with a trained network.

    The loop over timesteps runs inside one compiled function of the backend. Image k's
    noise depends on its own seed and on the number of the step alone, so an image is
    the same in whichever batch it is made. The two backends draw different noise from
    the same seed.

    Args:
        network: The noise-predicting `keras.Model` over `[image_input, time_input]`.
        diffusion: The `GaussianDiffusion` that it was trained with.
    """

    def __init__(self, network, diffusion):
        self.network = network
        self.diffusion = diffusion
        self.image_shape = tuple(network.inputs[0].shape[1:])
        self._advance = compile_calls(network, self._steps)
        self._start = compile_calls(
            network, lambda seeds: _draw(seeds, 0, self.image_shape)
        )

    def noise(self, seeds):
        """The noise x_T that the images of `seeds` start from.

        Args:
            seeds: One int per image, 0 to 2**31 - 1.

        Returns:
            A float32 tensor of shape `(len(seeds), height, width, channels)`.
        """
        return self._start(ops.convert_to_tensor(seeds, "int32"))

    def generate_images(
        self,
        num_images=16,
        sampler="ddpm",
        steps=None,
        seed=0,
        batch_size=64,
        verbose=1,
        clip_denoised=True,
        **options,
    ):
        """Sample images.

        Image k is a function of `seed + k`, the sampler and the weights: the same in
        every batch size and number of images, on one backend.

        Args:
            num_images: How many.
            sampler: `"ddpm"`, `"ddim"` or `"dpmpp"`.
            steps: Network evaluations per image. Default: all timesteps for ddpm, 50
                for ddim, 20 for dpmpp.
            seed: Seed of the first image, 0 or more; the others count up from it.
            batch_size: Images computed together.
            verbose: 1 shows a progress bar, 0 does not.
            clip_denoised: Whether predicted clean images are clipped in each step.
            **options: Of `samplers.make_steps`: `spacing`, `eta`, `variance`.

        Returns:
            A float32 NumPy array of shape `(num_images, height, width, channels)`,
            in [-1, 1] unless `clip_denoised` is off.

        Raises:
            ValueError: When the sampler, `num_images`, `seed` or an option is not
                possible.
        """
        if num_images < 1 or batch_size < 1:
            raise ValueError(
                "`num_images` and `batch_size` must be 1 or more. Received: "
                f"num_images={num_images}, batch_size={batch_size}"
            )
        if not isinstance(seed, Integral) or not 0 <= seed <= 2**31 - num_images:
            raise ValueError(
                "`seed`, that of the first image, must be an integer, 0 or more, and "
                f"the last image's at most 2**31 - 1. Received: seed={seed!r}"
            )
        plan = make_steps(self.diffusion, sampler, steps, **options)
        batches = self.batches(
            plan,
            np.arange(seed, seed + num_images),
            batch_size=batch_size,
            verbose=verbose,
            clip_denoised=clip_denoised,
        )
        return np.concatenate([images for _, images in batches])

    def batches(
        self,
        plan,
        seeds,
        start=None,
        batch_size=64,
        verbose=1,
        every=None,
        watch=None,
        **options,
    ):
        """Sample any number of images, one batch after another.

        Args:
            plan: The `Steps` of a sampler, see `samplers.make_steps`.
            seeds: One int per image, 0 to 2**31 - 1.
            start: A function that returns the images to start from, of shape
                `(n, height, width, channels)`, for an int array of shape `(n,)`: their
                places in `seeds`. Default: the noise of the seeds.
            batch_size: Images computed together.
            verbose: 1 shows a progress bar, 0 does not.
            every: Steps between two updates of the bar. Default: a hundredth of them.
            watch: Called at each of these with the number of the batch, from 0, and
                its `(t, x_t, x_0)`, see `run`. What it raises ends the sampling.
            **options: Of `run`.

        Yields:
            Tuples of the seeds of a batch and its images, a float32 NumPy array.
        """
        seeds = np.asarray(seeds)
        every = every or max(1, len(plan) // 100)
        batches = full_batches(len(seeds), batch_size)
        progress = keras.utils.Progbar(
            len(batches) * len(plan), verbose=verbose, unit_name="step"
        )
        for batch, (some, places) in enumerate(batches):
            x = None if start is None else start(places)
            chain = self.run(plan, seeds[places], x, every=every, **options)
            for k, (t, images, x_start) in enumerate(chain, 1):
                float(images[0, 0, 0, 0])  # wait, or the bar runs ahead of the device
                progress.update(batch * len(plan) + min(k * every, len(plan)))
                if watch is not None:
                    watch(batch, t, images, x_start)
            finished = seeds[some]
            yield finished, ops.convert_to_numpy(images)[: len(finished)]

    def run(self, plan, seeds, x=None, clip_denoised=True, every=1):
        """Yield the reverse process of one batch of images as it goes.

        Args:
            plan: The `Steps` of a sampler, see `samplers.make_steps`.
            seeds: One int per image, 0 to 2**31 - 1.
            x: Images to start from, of shape `(len(seeds), height, width, channels)`.
                Default: the noise of the seeds.
            clip_denoised: Whether the predicted clean images are clipped to the
                diffusion's range.
            every: Steps between two yields; the last one is always yielded.

        Yields:
            Tuples `(t, x_t, x_0)`: the timestep reached, the noisy images there, and
            the clean images that the step predicted. At the end t is -1 and x_t the
            sample.
        """
        seeds = ops.convert_to_tensor(seeds, "int32")
        x = self.noise(seeds) if x is None else ops.convert_to_tensor(x, "float32")
        x_start = ops.zeros_like(x)
        clip = np.float32(
            (self.diffusion.clip_min, self.diffusion.clip_max)
            if clip_denoised
            else (-np.inf, np.inf)
        )
        columns = [
            ops.convert_to_tensor(column)
            for column in (
                plan.timesteps,
                plan.a,
                plan.b,
                plan.c,
                plan.sigma,
                clip,
            )
        ]
        for first in range(0, len(plan), every):
            last = min(first + every, len(plan))
            x, x_start = self._advance(
                x,
                x_start,
                seeds,
                ops.convert_to_tensor(first, "int32"),
                ops.convert_to_tensor(last, "int32"),
                *columns,
            )
            yield int(plan.reached[last - 1]), x, x_start

    def _steps(self, x, x_start, seeds, first, last, timesteps, a, b, c, sigma, clip):
        """Take the steps from `first` up to `last` (not included)."""
        batch = ops.shape(x)[0]

        def step(i, x, x_start_before):
            t = ops.broadcast_to(timesteps[i], (batch,))
            pred_noise = ops.cast(self.network([x, t], training=False), "float32")
            x_start = self.diffusion.predict_start_from_noise(x, t, pred_noise)
            x_start = ops.clip(x_start, clip[0], clip[1])
            x = a[i] * x + b[i] * x_start + c[i] * x_start_before
            x = ops.cond(
                sigma[i] > 0,
                lambda: x + sigma[i] * _draw(seeds, i + 1, self.image_shape),
                lambda: x,
            )
            return i + 1, x, x_start

        _, x, x_start = ops.while_loop(
            lambda i, x, x_start: i < last, step, (first, x, x_start)
        )
        return x, x_start


class _StatelessSeed(keras.random.SeedGenerator):
    """Hands a given tensor to `keras.random`, which else takes only ints and state."""

    def __init__(self, value):
        self.value = value

    def next(self, ordered=True):
        return self.value


def _draw(seeds, number, image_shape):
    """Standard normal noise; image k's is a function of `seeds[k]` and `number`."""
    number = ops.cast(number, "uint32")

    def draw(seed):
        seed = _StatelessSeed(ops.stack([ops.cast(seed, "uint32"), number]))
        return keras.random.normal(image_shape, dtype="float32", seed=seed)

    # TensorFlow cannot vectorise its random generator and would warn of a loop.
    mapped = ops.vectorized_map if keras.backend.backend() == "jax" else ops.map
    return mapped(draw, seeds)


def compile_calls(network, function):
    """Compile a function that calls the network, which stays free to change."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True)
    if backend == "jax":
        import jax

        # The weights are arguments: as constants they would be frozen into the program.
        @jax.jit
        def with_weights(values, *args):
            mapping = zip(network.variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return function(*args)

        return lambda *args: with_weights([v.value for v in network.variables], *args)
    return function
