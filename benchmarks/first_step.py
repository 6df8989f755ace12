"""Time from the start of Python to the end of the first training step.

    python benchmarks/first_step.py

Runs fresh processes, one after another, with the network of train_step.py, and prints
medians for each part: imports, data, building the model, tracing the step in Python,
and its first execution, which includes compilation by the backend.
"""

import argparse
import json
import os
import statistics
import sys
import time

from common import answer_of, random_images
from machine import processor
from train_step import NETWORK, NUM_IMAGES


def work(started, batch_size):
    """Take the first step, and print its seconds and number of traces as JSON."""
    from ddpm_keras.cli.command import import_keras

    import_keras()  # as the commands do
    import keras

    from ddpm_keras import DiffusionModel, build_unet, make_batches
    from ddpm_keras.optimizers import Adam

    marks = {"import": time.time()}
    images = random_images(NUM_IMAGES, NETWORK["img_size"])
    batches, _ = make_batches(images, batch_size, num_epochs=1)
    marks["data"] = time.time()

    traces = []

    class Traced(DiffusionModel):
        def train_step(self, *args):
            start = time.time()
            result = super().train_step(*args)
            traces.append(time.time() - start)
            return result

    class AtFirstStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # waits for the step to end
            marks["step"] = time.time()

    model = Traced(build_unet(**NETWORK), seed=0)
    model.compile(loss="mean_squared_error", optimizer=Adam(2e-4))
    marks["build"] = time.time()
    model.fit(
        batches,
        steps_per_epoch=1,
        callbacks=[AtFirstStep()],
        verbose=0,
        shuffle=False,
    )

    seconds = {"all": marks["step"] - started}
    for name in ("import", "data", "build"):
        seconds[name] = marks[name] - started
        started = marks[name]
    seconds["trace"] = sum(traces)
    seconds["first execution"] = marks["step"] - started - sum(traces)
    print(json.dumps({"seconds": seconds, "traces": len(traces)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="processes; default: 3")
    parser.add_argument("--batch-size", type=int, default=32, help="default: 32")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        return work(args.worker, args.batch_size)

    runs = []
    for _ in range(args.runs):
        worker = ("--worker", repr(time.time()))
        runs.append(answer_of(__file__, *sys.argv[1:], *worker))
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(
        f"{processor()}; {backend} backend; batches of {args.batch_size}; medians of "
        f"{args.runs} processes; the step was traced {runs[-1]['traces']} time(s)"
    )
    for name in runs[0]["seconds"]:
        seconds = [run["seconds"][name] for run in runs]
        print(
            f"{name:20}{statistics.median(seconds):8.1f} s{min(seconds):8.1f} fastest"
        )


if __name__ == "__main__":
    main()
