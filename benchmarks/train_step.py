"""Time one training step: ours against diffusers, side by side.

    python benchmarks/train_step.py

Each runs in a process of its own. They take turns, a few steps at a time, so that a
busy machine slows all. Ours is `DiffusionModel.fit` with `make_batches`; theirs is what
peer.py builds, with Adam and the moving average of diffusers. diffusers and torch come
with `pip install -e ".[bench]"`; without them only ours is timed.
"""

import argparse
import os
import time

from common import random_images
from machine import processor
from peer import PEERS, build_peer, channels_last, installed, settings
from turns import Turns, add_turn_flags, print_table, take_turns

IMG_SIZE = 32
NUM_IMAGES = 1024
NETWORK = dict(
    img_size=IMG_SIZE,
    first_conv_channels=32,
    channel_multiplier=(1, 2, 4),
    has_attention=(False, False, True),
    num_res_blocks=2,
)


def train_ours(args, turns):
    """Train with `fit` until the turns end."""
    from ddpm_keras.cli.command import import_keras

    if args.jit != "on":  # XLA would have but the one thread of an operation
        import_keras()  # as the commands do
    import keras

    from ddpm_keras import DiffusionModel, build_unet, make_batches
    from ddpm_keras.optimizers import Adam

    class Timer(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # waits for the step to end
            turns.record(ours=time.perf_counter() - self.start)
            self.start = time.perf_counter()

    if args.mixed_precision != "float32":
        keras.config.set_dtype_policy(args.mixed_precision)
    network = build_unet(**NETWORK)
    model = DiffusionModel(network, seed=0)
    jit = {"auto": "auto", "on": True, "off": False}[args.jit]
    model.compile(loss="mean_squared_error", optimizer=Adam(2e-4), jit_compile=jit)
    images = random_images(NUM_IMAGES, IMG_SIZE)
    batches, _ = make_batches(images, args.batch_size, num_epochs=10**6)
    model.fit(
        batches, steps_per_epoch=10**6, callbacks=[Timer()], verbose=0, shuffle=False
    )


def train_theirs(args, turns):
    """Do the same with diffusers and PyTorch, in float32."""
    import torch
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    network = build_peer(NETWORK, args.worker)
    scheduler = DDPMScheduler()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, fused=True)
    average = EMAModel(network.parameters(), decay=0.999, foreach=True)
    images = torch.rand(NUM_IMAGES, 3, IMG_SIZE, IMG_SIZE) * 2 - 1
    images = channels_last(images)
    while True:
        start = time.perf_counter()
        x = images[torch.randint(len(images), (args.batch_size,))]
        noise = torch.randn_like(x)
        t = torch.randint(len(scheduler.betas), (args.batch_size,))
        pred_noise = network(scheduler.add_noise(x, noise, t), t).sample
        loss = torch.nn.functional.mse_loss(pred_noise, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.step(network.parameters())
        loss.item()
        turns.record(**{args.worker: time.perf_counter() - start})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="per turn; default: 5")
    parser.add_argument("--batch-size", type=int, default=32, help="default: 32")
    parser.add_argument(
        "--jit", choices=["auto", "on", "off"], default="auto", help="XLA, for ours"
    )
    parser.add_argument(
        "--mixed-precision", default="float32", metavar="POLICY", help="for ours"
    )
    add_turn_flags(parser, rounds=6)
    args = parser.parse_args()
    if args.worker:
        train = train_theirs if args.worker in PEERS else train_ours
        return train(args, Turns(args.steps))

    times = take_turns(["ours", *installed()], args.rounds, args.warm_up)
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(
        f"{processor()}; batches of {args.batch_size}; medians of "
        f"{args.steps * args.rounds} steps, in turns of {args.steps}"
    )
    print(
        f"ours: {backend} backend, {args.mixed_precision}, XLA {args.jit}, the "
        "package's Adam and moving average"
    )
    print(f"theirs: {settings()}, the moving average of diffusers by foreach")
    print_table(times, "step")


if __name__ == "__main__":
    main()
