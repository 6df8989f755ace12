"""What a training or a sampling costs, in a fresh process: seconds and peak memory.

`measure` starts this file with a task, and reads the answer from its last line.
"""

import json
import sys
import time

import numpy as np
from common import answer_of, random_images
from machine import peak_memory

NUM_IMAGES = 256


def measure(kind, config, environment=None, **task):
    """Train or sample in a process of its own.

    Args:
        kind: `"train"` or `"sample"`.
        config: Keys and values of a `Config`; `"config"` names a file to start from.
        environment: Environment variables of the process.
        **task: Arguments of the function of that name here.

    Returns:
        A dict: `seconds`, of the fastest step or of all images; `memory`, the most
        bytes held at once, on the GPU where there is one, else in the process.
    """
    asked = json.dumps([kind, config, task])
    return answer_of(__file__, asked, environment=environment)


def train(model, config, steps, rounds):
    """Train on images of random pixels; return the fastest round's seconds per step."""
    import keras

    from ddpm_keras import make_batches

    count = max(NUM_IMAGES, config.batch_size)
    images = random_images(count, config.img_size, config.img_channels)
    batches, _ = make_batches(images, config.batch_size, num_epochs=10**6)
    marks = []

    def mark(epoch, logs):
        float(logs["loss"])  # waits for the steps to end
        marks.append(time.perf_counter())

    model.fit(
        batches,
        steps_per_epoch=steps,
        epochs=1 + rounds,  # the first one compiles
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=mark)],
        verbose=0,
        shuffle=False,
    )
    return min(np.diff(marks)) / steps


def sample(model, config, num_images, sampler, steps, batch_size):
    """Sample images batch by batch, after a batch that compiles; return the seconds."""
    from ddpm_keras import make_steps

    plan = make_steps(model.diffusion, sampler, steps)

    def run(count):
        for _ in model.reverse_process.batches(
            plan, np.arange(count), batch_size=batch_size, verbose=0
        ):
            pass

    run(min(batch_size, num_images))
    start = time.perf_counter()
    run(num_images)
    return time.perf_counter() - start


def device_memory():
    """Return the most bytes held at once on the first GPU; None without one."""
    from ddpm_keras.backend import BACKEND

    if BACKEND == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return None
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if BACKEND != "jax":
        return None
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def main():
    kind, changes, task = json.loads(sys.argv[1])
    from ddpm_keras import Config, load_config
    from ddpm_keras.cli.command import import_keras

    import_keras()  # as the commands do
    from ddpm_keras.runs.build import build_model

    name = changes.pop("config", None)
    config = load_config(name, changes) if name else Config(**changes)
    model = build_model(config)
    seconds = {"train": train, "sample": sample}[kind](model, config, **task)
    memory = device_memory() or peak_memory()
    print(json.dumps({"seconds": seconds, "memory": memory}))


if __name__ == "__main__":
    main()
