"""Time one timestep of sampling: ours against diffusers, side by side.

    python benchmarks/sampling.py

Each program runs in a process of its own. They take turns, so that a busy machine slows
all. "our loop alone" is the cost of the loop: it runs a network that does next to
nothing. Theirs is what peer.py builds, and the DDPMScheduler. diffusers and torch come
with `pip install -e ".[bench]"`; without them only ours is timed.
"""

import argparse
import os
import time

from machine import processor
from peer import PEERS, build_peer, channels_last, frozen, installed, settings
from train_step import NETWORK
from turns import Turns, add_turn_flags, print_table, take_turns

EVERY = 20  # steps between two updates, as sample.py has for 1,000 steps
NETWORKS = {
    "32x32": NETWORK,
    "16x16": dict(
        img_size=16,
        first_conv_channels=16,
        channel_multiplier=(1, 2),
        has_attention=(False, True),
        num_res_blocks=1,
    ),
}


def sample_ours(args, turns):
    """Sample with the network, call it alone, and sample with next to none."""
    from ddpm_keras.cli.command import import_keras
    from ddpm_keras.networks.unet import build_unet

    import_keras()  # as the commands do
    network = build_unet(**NETWORKS[args.network])
    parts = {
        "ours": loop(network, args),
        "our network alone": forward(network, args),
        "our loop alone": loop(nothing(network.inputs[0].shape[1:]), args),
    }
    for run in parts.values():
        run()  # compiles
    while True:
        turns.record(**{part: run() for part, run in parts.items()})


def loop(network, args):
    """Return a function that samples `args.steps` timesteps; its seconds per step."""
    import numpy as np
    from keras import ops

    from ddpm_keras.denoiser import Denoiser
    from ddpm_keras.diffusion import GaussianDiffusion
    from ddpm_keras.samplers import make_steps
    from ddpm_keras.sampling import ReverseProcess

    diffusion = GaussianDiffusion()
    process = ReverseProcess(Denoiser(network, diffusion))
    plan = make_steps(diffusion, "ddpm", args.steps)
    seeds = np.arange(args.num_images)

    def run():
        start = time.perf_counter()
        for _, x, _ in process.run(plan, seeds, every=EVERY):
            ops.convert_to_numpy(x)
        return (time.perf_counter() - start) / args.steps

    return run


def nothing(image_shape):
    """Build a network of one multiplication."""
    import keras

    image, t = keras.Input(image_shape), keras.Input((), dtype="int32")
    return keras.Model([image, t], keras.layers.Rescaling(0.5)(image))


def forward(network, args):
    """Return a function that times calls of the compiled network alone."""
    from keras import ops

    from ddpm_keras.backend import compile_calls
    from ddpm_keras.parts import call_in_parts

    images = ops.zeros((args.num_images, *network.inputs[0].shape[1:]))
    timesteps = ops.zeros((args.num_images,), "int32")
    inputs = [images, timesteps]
    call = compile_calls(lambda: call_in_parts(network, inputs, False), network)

    def run():
        start = time.perf_counter()
        for _ in range(args.steps):
            result = call()
        ops.convert_to_numpy(result)
        return (time.perf_counter() - start) / args.steps

    return run


def sample_theirs(args, turns):
    """Sample with diffusers' UNet2DModel and DDPMScheduler."""
    import torch
    from diffusers import DDPMScheduler

    arguments = NETWORKS[args.network]
    network = build_peer(arguments, args.worker).eval()
    scheduler = DDPMScheduler(clip_sample=True)
    scheduler.set_timesteps(args.steps)

    def run():
        start = time.perf_counter()
        x = torch.randn(args.num_images, 3, *[arguments["img_size"]] * 2)
        x = channels_last(x)
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t).sample, t, x).prev_sample
        x.numpy()
        return (time.perf_counter() - start) / args.steps

    with torch.no_grad(), frozen():
        run()  # compiles
        while True:
            turns.record(**{args.worker: run()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-images", type=int, default=16, help="default: 16")
    parser.add_argument("--steps", type=int, default=20, help="per turn; default: 20")
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS)
    )
    parser.add_argument("--network", help=argparse.SUPPRESS)
    add_turn_flags(parser, rounds=7)
    args = parser.parse_args()
    if args.worker:
        sample = sample_theirs if args.worker in PEERS else sample_ours
        return sample(args, Turns())

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(
        f"{processor()}; {args.num_images} images; medians of {args.rounds} turns of "
        f"{args.steps} timesteps"
    )
    print(f"ours: {backend} backend, float32")
    print(f"theirs: {settings()}")
    for name in args.networks:
        channels, levels, blocks = (
            NETWORKS[name][key]
            for key in ("first_conv_channels", "channel_multiplier", "num_res_blocks")
        )
        print(f"\n{name}, {channels} channels, {levels}, blocks: {blocks}")
        times = take_turns(
            ["ours", *installed()], args.rounds, args.warm_up, "--network", name
        )
        print_table(times, "timestep")


if __name__ == "__main__":
    main()
