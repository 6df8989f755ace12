"""The reverse process: a sampler's steps in one compiled loop, batch by batch."""

import contextlib
from numbers import Integral

import keras
import numpy as np
from keras import ops

from ddpm_keras.backend import compile_calls, map_images, noise_seed
from ddpm_keras.data.batches import full_batches
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.errors import require
from ddpm_keras.guidance import Guided
from ddpm_keras.labels import check_guidance, guided_steps, make_labels
from ddpm_keras.progress import Progress
from ddpm_keras.samplers import MAX_SEED, make_steps


class ReverseProcess:
    """The reverse process of a trained network, which turns noise into images.

    The loop over timesteps is one compiled function of the backend. An image's noise
    depends on its seed and the number of the step only, not on its batch. Backends draw
    different noise from the same seed.

    Args:
        denoiser: A `Denoiser`, or a network together with `diffusion`.
        diffusion: The `GaussianDiffusion` of a network.
        guide: A weaker `Denoiser` to guide by (autoguidance): a smaller network, or an
            earlier checkpoint, of the same process and image size.
    """

    def __init__(self, denoiser, diffusion=None, guide=None):
        if diffusion is not None:
            denoiser = Denoiser(denoiser, diffusion)
        require(
            isinstance(denoiser, Denoiser),
            "`denoiser` must be a `Denoiser`, or a network with its `diffusion`.",
            denoiser=denoiser,
        )
        self.denoiser = denoiser
        self.guided = Guided(denoiser, guide)
        self.diffusion = denoiser.diffusion
        self.image_shape = denoiser.image_shape
        self._advance = compile_calls(self._steps, self.guided)
        self._start = compile_calls(
            lambda seeds: _draw(seeds, 0, self.image_shape), self.guided
        )

    def noise(self, seeds):
        """Draw the noise x_T that images start from.

        Args:
            seeds: One int per image, 0 to `samplers.MAX_SEED`.

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
        labels=None,
        guidance_scale=1.0,
        guidance_interval=(0.0, 1.0),
        **options,
    ):
        """Sample images.

        Image k depends on `seed + k`, its label, the sampler and the weights, and not
        on the batch size or the number of images.

        Args:
            num_images: Number of images.
            sampler: `"ddpm"`, `"ddim"` or `"dpmpp"`.
            steps: Network calls per image. Default: all timesteps for ddpm, 50 for
                ddim, 20 for dpmpp.
            seed: Seed of the first image, 0 or more; the others count up from it.
            batch_size: Images computed together.
            verbose: 1 shows progress, 0 does not.
            clip_denoised: Whether predicted clean images are clipped in each step.
            labels: The class to sample, an int, or an int for each image, -1 for any
                class; or a `labels.Labels`. Default: any class.
            guidance_scale: How far to go from the prediction for any class, or that of
                `guide`, to the one for the label and beyond: 1 is no guidance, more
                gives clearer and less varied images.
            guidance_interval: Where to guide, as shares of the process from 0, the
                clean image, to 1, pure noise.
            **options: Of `samplers.make_steps`: `spacing`, `until`, `eta`,
                `eta_until`, `variance`.

        Returns:
            A float32 NumPy array of shape `(num_images, height, width, channels)`, in
            [-1, 1] unless `clip_denoised` is off.

        Raises:
            ArgumentError: When an argument is invalid.
        """
        require(
            num_images >= 1 and batch_size >= 1,
            "`num_images` and `batch_size` must be 1 or more.",
            num_images=num_images,
            batch_size=batch_size,
        )
        require(
            isinstance(seed, Integral) and 0 <= seed <= MAX_SEED + 1 - num_images,
            "`seed`, that of the first image, must be an integer, 0 or more, and the "
            f"last image's at most {MAX_SEED}.",
            seed=seed,
        )
        require(
            "strength" not in options,
            "`strength` is for images to start from: see `make_steps` and `batches`.",
            strength=options.get("strength"),
        )
        plan = make_steps(self.diffusion, sampler, steps, **options)
        seeds = np.arange(seed, seed + num_images)
        batches = self.batches(
            plan,
            seeds,
            batch_size=batch_size,
            verbose=verbose,
            clip_denoised=clip_denoised,
            labels=labels,
            guidance_scale=guidance_scale,
            guidance_interval=guidance_interval,
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
        labels=None,
        guidance_scale=1.0,
        **options,
    ):
        """Sample any number of images, one batch after another.

        Args:
            plan: The `Steps` of a sampler, see `samplers.make_steps`.
            seeds: One int per image, 0 to `samplers.MAX_SEED`.
            start: A function from places in `seeds`, an int array of shape `(n,)`, to
                the images to start from, of shape `(n, height, width, channels)`.
                Default: the noise of the seeds.
            batch_size: Images that the network computes together; an image counts once
                for each label whose prediction is mixed, "no label" included.
            verbose: 1 shows progress, 0 does not.
            every: Steps between two updates of it. Default: a hundredth of them.
            watch: Called at each update with the number of the batch, from 0, and its
                `(t, x_t, x_0)`, see `run`, as NumPy arrays. An exception ends the
                sampling.
            labels: As in `generate_images`.
            guidance_scale: As in `generate_images`.
            **options: Of `run`.

        Yields:
            Tuples of the seeds of a batch and its images, a float32 NumPy array.
        """
        seeds = np.asarray(seeds)
        every = every or max(1, len(plan) // 100)
        if labels is not None:
            labels = make_labels(labels, len(seeds), self.denoiser.num_classes)
            passes = self.guided.mixture(labels, guidance_scale).passes
            batch_size = max(1, batch_size // passes)
        options["guidance_scale"] = guidance_scale
        batches = full_batches(len(seeds), batch_size)
        total = len(batches) * len(plan)
        progress = Progress("sampling", total, "steps", show=bool(verbose))
        with contextlib.closing(progress):
            for batch, (some, places) in enumerate(batches):
                x = None if start is None else start(places)
                some_labels = None if labels is None else labels.take(places)
                chain = self.run(
                    plan, seeds[places], x, every=every, labels=some_labels, **options
                )
                for k, (t, images, x_start) in enumerate(chain, 1):
                    float(images[0, 0, 0, 0])  # wait, or it runs ahead of the device
                    progress.update(batch * len(plan) + min(k * every, len(plan)))
                    if watch is not None:
                        watch(batch, t, *map(ops.convert_to_numpy, (images, x_start)))
                finished = seeds[some]
                yield finished, ops.convert_to_numpy(images)[: len(finished)]

    def run(
        self,
        plan,
        seeds,
        x=None,
        clip_denoised=True,
        every=1,
        labels=None,
        guidance_scale=1.0,
        guidance_interval=(0.0, 1.0),
    ):
        """Yield the states of the reverse process of one batch.

        Args:
            plan: The `Steps` of a sampler, see `samplers.make_steps`.
            seeds: One int per image, 0 to `samplers.MAX_SEED`.
            x: Images to start from, of shape `(len(seeds), height, width, channels)`.
                Default: the noise of the seeds.
            clip_denoised: Whether the predicted clean images are clipped to the
                diffusion's range.
            every: Steps between two yields; the last one is always yielded.
            labels: As in `generate_images`.
            guidance_scale: As in `generate_images`.
            guidance_interval: As in `generate_images`.

        Yields:
            Tuples `(t, x_t, x_0)`: the timestep reached, the noisy images there, and
            the predicted clean images. At the end t is -1 and x_t the sample.
        """
        check_guidance(guidance_scale, guidance_interval)
        require(
            guidance_scale == 1 or labels is not None or self.guided.guide is not None,
            "`guidance_scale` needs labels or a guide.",
            guidance_scale=guidance_scale,
        )
        if labels is not None:
            labels = make_labels(labels, len(seeds), self.denoiser.num_classes)
        seeds = ops.convert_to_tensor(seeds, "int32")
        x = self.noise(seeds) if x is None else ops.convert_to_tensor(x, "float32")
        state = x, ops.zeros_like(x)
        clip = (-np.inf, np.inf)
        if clip_denoised:
            clip = self.diffusion.clip_min, self.diffusion.clip_max
        tables = (
            ops.convert_to_tensor(plan.timesteps),
            ops.convert_to_tensor(np.stack([plan.a, plan.b, plan.c, plan.sigma], 1)),
            ops.convert_to_tensor(np.float32(clip)),
        )
        plain, guided = self.guided.conditions(labels, 1.0), None
        if guidance_scale != 1:
            guided = self.guided.conditions(labels, guidance_scale)
        inside = guided_steps(
            plan.timesteps, self.diffusion.timesteps, guidance_interval
        )
        # Where spans of equal conditions end, and where a yield is due.
        turns = np.flatnonzero(np.diff(inside)) + 1 if guided else []
        ends = sorted({*turns, *range(every, len(plan), every), len(plan)})
        first = 0
        for last in ends:
            conditions = guided if guided and inside[first] else plain
            span = ops.convert_to_tensor((first, last), "int32")
            state = self._advance(state, seeds, span, conditions, *tables)
            first = last
            if last % every == 0 or last == len(plan):
                yield int(plan.reached[last - 1]), *state

    def _steps(self, state, seeds, span, conditions, timesteps, columns, clip):
        """Take the steps `span[0]` up to, not including, `span[1]`."""
        batch = ops.shape(seeds)[0]

        def step(i, x, x_start_before):
            t = ops.broadcast_to(timesteps[i], (batch,))
            a, b, c, sigma = ops.unstack(columns[i], 4)
            x_start = ops.clip(self.guided(x, t, *conditions), clip[0], clip[1])
            x = a * x + b * x_start + c * x_start_before
            x = ops.cond(
                sigma > 0,
                lambda: x + sigma * _draw(seeds, i + 1, self.image_shape),
                lambda: x,
            )
            return i + 1, x, x_start

        _, x, x_start = ops.while_loop(
            lambda i, x, x_start: i < span[1], step, (span[0], *state)
        )
        return x, x_start


class _StatelessSeed(keras.random.SeedGenerator):
    """A seed for `keras.random` given as a tensor."""

    def __init__(self, value):
        self.value = value

    def next(self, ordered=True):
        return self.value


def _draw(seeds, number, image_shape):
    """Draw standard normal noise; image k's depends on `seeds[k]` and `number`."""

    def draw(seed):
        seed = _StatelessSeed(noise_seed(seed, number))
        return keras.random.normal(image_shape, dtype="float32", seed=seed)

    return map_images(draw, seeds)
