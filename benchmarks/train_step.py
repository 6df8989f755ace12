"""Time one training step: ours against diffusers, side by side.

    python benchmarks/train_step.py

Each runs in a process of its own. They take turns, a few steps at a time, so that a
busy machine slows both. Prints medians of single steps. Ours is `DiffusionModel.fit`
with `make_batches`; theirs is a UNet2DModel of the same widths and blocks with Adam and
the moving average of diffusers. diffusers and torch come with
`pip install -e .[bench]`; without them only ours is timed.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from diffusers_unet import build_theirs

IMG_SIZE = 32
NUM_IMAGES = 1024
NETWORK = dict(
    img_size=IMG_SIZE,
    first_conv_channels=32,
    channel_multiplier=(1, 2, 4),
    has_attention=(False, False, True),
    num_res_blocks=2,
)


def train_ours(args, record):
    """Train with `fit` for ever, calling `record(seconds)` after each step."""
    import keras
    import numpy as np

    from ddpm_keras import DiffusionModel, build_unet, make_batches
    from ddpm_keras.optimizers import Adam

    class Timer(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # waits for the step to end
            record(time.perf_counter() - self.start)
            self.start = time.perf_counter()

    if args.mixed_precision != "float32":
        keras.config.set_dtype_policy(args.mixed_precision)
    network = build_unet(**NETWORK)
    model = DiffusionModel(network, seed=0)
    jit = {"auto": "auto", "on": True, "off": False}[args.jit]
    model.compile(loss="mean_squared_error", optimizer=Adam(2e-4), jit_compile=jit)
    images = np.random.default_rng(0).integers(
        0, 256, (NUM_IMAGES, IMG_SIZE, IMG_SIZE, 3), dtype="uint8"
    )
    batches, _ = make_batches(images, args.batch_size, num_epochs=10**6)
    model.fit(
        batches, steps_per_epoch=10**6, callbacks=[Timer()], verbose=0, shuffle=False
    )


def train_theirs(args, record):
    """Do the same with diffusers and PyTorch, in float32."""
    import torch
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    network = build_theirs(NETWORK)
    scheduler = DDPMScheduler()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    average = EMAModel(network.parameters(), decay=0.999)
    images = torch.rand(NUM_IMAGES, 3, IMG_SIZE, IMG_SIZE) * 2 - 1
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
        record(time.perf_counter() - start)


def work(args):
    """Take some steps for each line on stdin, and print their seconds as JSON."""
    train = {"ours": train_ours, "diffusers": train_theirs}[args.worker]
    seconds = []

    def record(step_seconds):
        seconds.append(step_seconds)
        if len(seconds) == args.steps:
            print(json.dumps(seconds), flush=True)
            seconds.clear()
            if not sys.stdin.readline():
                sys.exit()

    sys.stdin.readline()
    train(args, record)


class Worker:
    """A process that trains on request."""

    def __init__(self, name):
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        )

    def run(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with {self.process.wait()}")
        return json.loads(line)


def processor():
    """Describe the processor: cores, name, and AVX-512, which decides the speed."""
    from ddpm_keras.backend import count_cores

    name, flags = "processor", ""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            name = value.strip() if key.strip() == "model name" else name
            flags = value if key.strip() == "flags" else flags
    wide = "with" if "avx512f" in flags.split() else "without"
    return f"{count_cores()} x {name} {wide} AVX-512"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="per turn; default: 5")
    parser.add_argument("--rounds", type=int, default=6, help="default: 6")
    parser.add_argument("--batch-size", type=int, default=32, help="default: 32")
    parser.add_argument(
        "--jit", choices=["auto", "on", "off"], default="auto", help="XLA, for ours"
    )
    parser.add_argument(
        "--mixed-precision", default="float32", metavar="POLICY", help="for ours"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args)

    names = ["ours"]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("diffusers"):
        names.append("diffusers")
    workers = {name: Worker(name) for name in names}
    for worker in workers.values():
        worker.run()  # traces, compiles, warms up
    times = {name: [] for name in names}
    for _ in range(args.rounds):
        for name, worker in workers.items():
            times[name] += worker.run()
    for worker in workers.values():
        worker.process.stdin.close()
        worker.process.wait()

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(
        f"{processor()}; {backend} backend; batches of {args.batch_size}; medians of "
        f"{args.steps * args.rounds} steps, in turns of {args.steps}"
    )
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"{'':12}{'ms/step':>10}{'fastest':>10}{'speed of ours':>15}")
    for name, median in medians.items():
        fastest = 1000 * min(times[name])
        ratio = f"{median / medians['ours']:.2f} x"
        print(f"{name:12}{1000 * median:10.0f}{fastest:10.0f}{ratio:>15}")
    if "diffusers" not in names:
        print("diffusers is not installed: pip install -e .[bench]")


if __name__ == "__main__":
    main()
