"""Time one timestep of sampling: ours against diffusers, side by side.

    python benchmarks/sampling.py

Runs alternate, so that a busy machine slows both, and medians are printed. "our loop
alone" is the cost of the loop: it runs a network that does next to nothing. diffusers
and torch come with `pip install -e .[bench]`; without them only ours is timed.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from diffusers_unet import build_theirs  # noqa: E402
from keras import ops  # noqa: E402
from train_step import NETWORK, processor  # noqa: E402

from ddpm_keras.backend import compile_calls  # noqa: E402
from ddpm_keras.denoiser import Denoiser  # noqa: E402
from ddpm_keras.diffusion import GaussianDiffusion  # noqa: E402
from ddpm_keras.networks.unet import build_unet  # noqa: E402
from ddpm_keras.samplers import make_steps  # noqa: E402
from ddpm_keras.sampling import ReverseProcess  # noqa: E402

EVERY = 20  # steps between two updates, as sample.py has for 1,000 steps
NETWORKS = {
    "32x32, 32 channels, (1, 2, 4), 2 blocks": NETWORK,
    "16x16, 16 channels, (1, 2), 1 block": dict(
        img_size=16,
        first_conv_channels=16,
        channel_multiplier=(1, 2),
        has_attention=(False, True),
        num_res_blocks=1,
    ),
}


def ours(network, num_images, steps):
    """Return a function that samples `steps` timesteps; it returns seconds per step."""
    diffusion = GaussianDiffusion()
    process = ReverseProcess(Denoiser(network, diffusion))
    plan = make_steps(diffusion, "ddpm", steps)
    seeds = np.arange(num_images)

    def run():
        start = time.perf_counter()
        for _, x, _ in process.run(plan, seeds, every=EVERY):
            ops.convert_to_numpy(x)
        return (time.perf_counter() - start) / steps

    return run


def nothing(img_size):
    """Build a network of one multiplication."""
    image, t = keras.Input((img_size, img_size, 3)), keras.Input((), dtype="int32")
    return keras.Model([image, t], keras.layers.Rescaling(0.5)(image))


def forward(network, num_images, steps):
    """Return a function that times `steps` calls of the compiled network alone."""
    images = ops.zeros((num_images, *network.inputs[0].shape[1:]))
    timesteps = ops.zeros((num_images,), "int32")
    call = compile_calls(lambda: network([images, timesteps], training=False), network)

    def run():
        start = time.perf_counter()
        for _ in range(steps):
            result = call()
        ops.convert_to_numpy(result)
        return (time.perf_counter() - start) / steps

    return run


def theirs(arguments, num_images, steps):
    """Return the same for diffusers' UNet2DModel and DDPMScheduler, if installed."""
    try:
        import torch
        from diffusers import DDPMScheduler
    except ImportError:
        return None
    network = build_theirs(arguments).eval()
    scheduler = DDPMScheduler(clip_sample=True)
    scheduler.set_timesteps(steps)

    @torch.no_grad()
    def run():
        start = time.perf_counter()
        x = torch.randn(num_images, 3, *[arguments["img_size"]] * 2)
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t).sample, t, x).prev_sample
        x.numpy()
        return (time.perf_counter() - start) / steps

    run.parameters = sum(p.numel() for p in network.parameters())
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-images", type=int, default=16, help="default: 16")
    parser.add_argument("--steps", type=int, default=20, help="per run; default: 20")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    args = parser.parse_args()
    print(
        f"{keras.backend.backend()} backend, keras {keras.__version__}, "
        f"{processor()}, "
        f"{args.num_images} images, medians of {args.rounds} rounds"
    )
    print(f"{'network':42}{'what':22}{'ms/timestep':>12}{'of ours':>10}")
    for name, arguments in NETWORKS.items():
        network = build_unet(**arguments)
        loop = nothing(arguments["img_size"])
        runs = {
            "ours": ours(network, args.num_images, args.steps),
            "our network alone": forward(network, args.num_images, args.steps),
            "our loop alone": ours(loop, args.num_images, args.steps),
            "diffusers": theirs(arguments, args.num_images, args.steps),
        }
        runs = {what: run for what, run in runs.items() if run is not None}
        for run in runs.values():
            run()  # compiles
        times = {what: [] for what in runs}
        for _ in range(args.rounds):
            for what, run in runs.items():
                times[what].append(run())
        medians = {what: statistics.median(t) for what, t in times.items()}
        for what, median in medians.items():
            ratio = f"{median / medians['ours']:.1%}"
            print(f"{name:42}{what:22}{1000 * median:12.2f}{ratio:>10}")
        if "diffusers" not in runs:
            print("diffusers is not installed: pip install -e .[bench]")


if __name__ == "__main__":
    main()
