"""The programs of speedrun.py: ours, and diffusers with PyTorch.

Each takes steps, keeps the average of its weights, samples from what it kept, and saves
its state so that another process can go on.
"""

import math
import sys

import numpy as np
from commands import ROOT

from ddpm_keras.data.pixels import to_uint8
from ddpm_keras.files import written_whole
from ddpm_keras.runs import checkpoint
from ddpm_keras.runs.build import build_model
from ddpm_keras.runs.state import load_state, state_arrays
from ddpm_keras.weights import load_weights, save_weights

sys.path.append(str(ROOT / "benchmarks"))
from peer import build_peer  # noqa: E402

STEPS = {"dpmpp": 20, "ddpm": None}  # of each sampler; None: all
WARMUP = 500  # steps, of those whose rate decays


class Ours:
    """A `DiffusionModel` in training.

    Args:
        config: The `Config`, without labels.
        folder: Folder for the state.
    """

    def __init__(self, config, folder):
        self.config, self.folder = config, folder
        self.model = build_model(config)

    def step(self, images, rate):
        """Take a training step.

        Args:
            images: float32 array of clean images in [-1, 1], `(batch, height, width,
                channels)`.
            rate: The learning rate.
        """
        self.model.optimizer.learning_rate = rate
        self.model.train_on_batch(images)

    def save(self, step, seconds):
        """Save the state, and how far the training is."""
        facts = {"seconds": seconds}
        checkpoint.save(self.folder, step, state_arrays(self.model), facts, keep=1)

    def restore(self):
        """Go on from the saved state, if there is one; return its step and seconds."""
        found = checkpoint.restore(self.folder)
        if found is None:
            return 0, 0.0
        step, arrays, facts = found
        load_state(self.model, arrays)
        return step, facts["seconds"]

    def keep_average(self, path):
        """Write the averaged weights to a file."""
        save_weights(self.model.ema_network, path, self.config)

    def sample(self, path, sampler, num_images):
        """Sample from the averaged weights in a file, with a sampler of `STEPS`.

        Returns:
            uint8 array of shape `(num_images, height, width, channels)`.
        """
        load_weights(self.model.ema_network, path)
        options = {"eta": 1.0} if sampler == "dpmpp" else {}
        options |= {"sampler": sampler, "steps": STEPS[sampler], "seed": 0}
        return to_uint8(self.model.generate_images(num_images, **options))


class Diffusers:
    """A `UNet2DModel` in training; arguments and methods are those of `Ours`.

    The numbers are the defaults of diffusers' examples/unconditional_image_generation/
    train_unconditional.py; that of the rate and the images of a step are in `config`.
    """

    def __init__(self, config, folder):
        import torch
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        torch.manual_seed(config.seed)
        self.config, self.state = config, folder / "state.pt"
        self.network = build_peer(config.network_arguments(), "diffusers")
        self.scheduler = DDPMScheduler()
        self.weights = list(self.network.parameters())
        settings = dict(betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        self.optimizer = torch.optim.AdamW(self.weights, **settings, fused=True)
        warmup = dict(use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.average = EMAModel(self.weights, decay=0.9999, **warmup, foreach=True)
        self.parts = {
            "network": self.network,
            "optimizer": self.optimizer,
            "average": self.average,
        }

    def step(self, images, rate):
        import torch

        images = torch.tensor(images).permute(0, 3, 1, 2)  # channels last in memory
        noise = torch.randn_like(images)
        t = torch.randint(len(self.scheduler.betas), (len(images),))
        noisy = self.scheduler.add_noise(images, noise, t)
        loss = torch.nn.functional.mse_loss(self.network(noisy, t).sample, noise)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.average.step(self.weights)

    def save(self, step, seconds):
        import torch

        states = {name: part.state_dict() for name, part in self.parts.items()}
        with written_whole(self.state) as temporary:
            torch.save({"step": step, "seconds": seconds, **states}, temporary)

    def restore(self):
        import torch

        if not self.state.is_file():
            return 0, 0.0
        found = torch.load(self.state, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(found[name])
        torch.manual_seed(self.config.seed + found["step"])  # not the first noise again
        return found["step"], found["seconds"]

    def keep_average(self, path):
        import torch

        with written_whole(path) as temporary:
            torch.save(self.average.shadow_params, temporary)

    def sample(self, path, sampler, num_images):
        import torch
        from diffusers import DDPMPipeline, DPMSolverMultistepScheduler

        scheduler = self.scheduler
        if sampler == "dpmpp":
            scheduler = DPMSolverMultistepScheduler(
                algorithm_type="sde-dpmsolver++",
                timestep_spacing="trailing",
                thresholding=True,  # to [-1, 1], as the largest value is 1
            )
        averages = torch.load(path, weights_only=True)
        for weight, average in zip(self.weights, averages, strict=True):
            weight.data.copy_(average)
        pipeline = DDPMPipeline(self.network, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        steps = STEPS[sampler] or len(self.scheduler.betas)
        generator = torch.Generator().manual_seed(0)
        images = [
            pipeline(min(64, num_images - first), generator, steps, "np").images
            for first in range(0, num_images, 64)
        ]
        return np.rint(255 * np.concatenate(images)).astype("uint8")


def decay(step, share):
    """Return the rate, as a share of the largest: a warm-up, and half a cosine."""
    return min(1.0, (step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * share))
