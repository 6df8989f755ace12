"""Where the time of a training step goes, and what the convolutions achieve.

    python benchmarks/profile_step.py

Profiles steps of the network of train_step.py with TensorFlow's profiler, and prints
the time in kernels by kind, as shares of all kernels: two run at once, so that their
sum is more than the time of the step. Then it times the convolutions of
the step alone, one after another, forward and backward: their GFLOP/s are what the
machine gives, beside what the step achieves of it.

TensorFlow on a processor only: it reads the names of TensorFlow's kernels.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

from common import random_images  # noqa: E402
from machine import processor  # noqa: E402
from train_step import NETWORK, NUM_IMAGES  # noqa: E402

# Kinds by part of the kernel's name, then by part of its layer's; the first one counts.
KERNELS = {
    "MatMul": "dense layers and attention",
    "Softmax": "dense layers and attention",
    "ResourceApplyAdam": "Adam",
    "IsFinite": "Adam",
    "ResourceApplyGradientDescent": "moving average",
}
LAYERS = {"norm_": "normalisation", "head_norm": "normalisation"}
INPUT = "input (reading, mirroring and scaling images)"
OTHER = "activations, sums, copies and the rest"


def trained_step(batch_size):
    """Return a function that takes one training step and returns its seconds."""
    from ddpm_keras import DiffusionModel, build_unet, make_batches
    from ddpm_keras.optimizers import Adam

    model = DiffusionModel(build_unet(**NETWORK), seed=0)
    model.compile(loss="mean_squared_error", optimizer=Adam(2e-4))
    images = random_images(NUM_IMAGES, NETWORK["img_size"])
    batches, _ = make_batches(images, batch_size, num_epochs=10**6)
    iterator = iter(batches)
    model.make_train_function()

    def step():
        start = time.perf_counter()
        float(model.train_function(iterator)["loss"])
        return time.perf_counter() - start

    return model.network, step


def kernel_seconds(step, steps):
    """Return the seconds in kernels per step by `(kernel, name of the operation)`."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(steps):
            step()
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    seconds = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                operation, colon, kernel = name.rpartition(":")
                if not colon or operation.endswith(":") or " " in name:
                    continue  # not a kernel
                if line.name.startswith("tf_data"):
                    operation, kernel = INPUT, ""
                seconds[kernel, operation] += event.duration_ps / 1e12 / steps
    return seconds


def kind(kernel, operation):
    """Name the kind of work of a kernel."""
    if operation == INPUT:
        return INPUT
    if "Conv2D" in kernel:
        if "gradient" not in operation:
            return "convolutions, forward"
        of = "weights" if "Filter" in kernel else "inputs"
        return f"convolutions, gradients of their {of}"
    for part, name in KERNELS.items():
        if part in kernel:
            return name
    for part, name in LAYERS.items():
        if part in operation:
            return name
    return OTHER


def convolutions(network, batch_size):
    """Count the network's convolutions by `(kernel, input's shape, weights', stride)`.

    Those of the operation "Conv2DBackpropInput" are transposed.
    """
    import tensorflow as tf

    inputs = [
        tf.TensorSpec((batch_size, *tensor.shape[1:]), tensor.dtype)
        for tensor in network.inputs
    ]
    graph = tf.function(network.call).get_concrete_function(inputs).graph
    found = Counter()
    for operation in graph.get_operations():
        if operation.type.startswith("Conv2D"):
            tensors = list(operation.inputs)
            transposed = operation.type == "Conv2DBackpropInput"
            shape = tensors[2 if transposed else 0].shape
            weights = tensors[1].shape
            stride = operation.get_attr("strides")[1]
            found[operation.type, tuple(shape), tuple(weights), stride] += 1
    return found


def multiplications(kernel, shape, weights, stride):
    """Count those of a convolution in one direction."""
    batch, height, width, _ = shape
    if kernel == "Conv2D":
        height, width = height // stride, width // stride
    return batch * height * width * math.prod(weights)


def seconds_alone(kernel, shape, weights, stride, repeats):
    """Return the fastest time of a convolution and its two gradients alone."""
    import tensorflow as tf

    x, w = tf.random.normal(shape), tf.random.normal(weights)
    batch, height, width, _ = shape
    large = (batch, stride * height, stride * width, weights[2])

    @tf.function
    def run(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            if kernel == "Conv2D":
                y = tf.nn.conv2d(x, w, stride, "SAME")
            else:
                y = tf.nn.conv2d_transpose(x, w, large, stride)
        return y, *tape.gradient(y, [x, w], y)

    def once():
        start = time.perf_counter()
        run(x, w)[-1].numpy()
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(repeats))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32, help="default: 32")
    parser.add_argument("--steps", type=int, default=10, help="default: 10")
    args = parser.parse_args()

    network, step = trained_step(args.batch_size)
    step()  # traces
    times = [step() for _ in range(args.steps)]
    kinds = Counter()
    for (kernel, operation), seconds in kernel_seconds(step, args.steps).items():
        kinds[kind(kernel, operation)] += seconds
    found = convolutions(network, args.batch_size)
    # Forward, and the gradients of input and weights.
    flop = 3 * 2 * sum(n * multiplications(*conv) for conv, n in found.items())
    alone = sum(n * seconds_alone(*conv, args.steps) for conv, n in found.items())

    print(f"{processor()}; batches of {args.batch_size}; {args.steps} steps")
    print(
        f"a step: {1000 * statistics.median(times):.0f} ms, "
        f"fastest {1000 * min(times):.0f} ms"
    )
    print(f"{'kernels':50}{'ms/step':>10}{'share':>8}")
    for name, seconds in kinds.most_common():
        print(f"{name:50}{1000 * seconds:10.1f}{seconds / kinds.total():8.1%}")
    print(f"convolutions: {flop / 1e9:.1f} GFLOP a step, {sum(found.values())} of them")
    print(f"in the fastest step: {flop / min(times) / 1e9:.0f} GFLOP/s")
    print(
        f"alone, one after another: {flop / alone / 1e9:.0f} GFLOP/s, "
        f"{1000 * alone:.0f} ms"
    )


if __name__ == "__main__":
    main()
