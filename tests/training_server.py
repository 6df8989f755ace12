"""Run `ddpm-train` in one process after another, loading TensorFlow only once.

Read lines with the arguments of a command from stdin. For each, print the id of the
process that runs it and, at its end, the exit status, or minus the signal that killed
it. The network is one convolution, which compiles in one second rather than ten.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import keras

from ddpm_keras import networks
from ddpm_keras.cli.train import main as train_main
from ddpm_keras.networks.layers import LabelEmbedding
from ddpm_keras.networks.unet_arguments import AUGMENT_DIM, height_and_width


def build_convolution(
    img_size, img_channels, first_conv_channels, dropout, num_classes, augment, **others
):
    shape = (*height_and_width(img_size), img_channels)
    image = keras.Input(shape, name="image_input")
    t = keras.Input((), dtype="int32", name="time_input")
    inputs = [image, t]
    x = image + keras.layers.Rescaling(0.1)(keras.layers.Reshape((1, 1, 1))(t))
    if num_classes is not None:
        inputs.append(keras.Input((), dtype="int32", name="label_input"))
        embedding = LabelEmbedding(num_classes, img_channels, name="label_embedding")
        x = x + embedding(inputs[-1])[:, None, None, :]
    if augment:
        inputs.append(keras.Input((AUGMENT_DIM,), name="augment_input"))
        told = keras.layers.Dense(img_channels, use_bias=False, name="told")(inputs[-1])
        x = x + told[:, None, None, :]
    x = keras.layers.Conv2D(first_conv_channels, 3, padding="same", name="stem")(x)
    x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.Conv2D(img_channels, 3, padding="same", name="output")(x)
    return keras.Model(inputs, x)


@contextlib.contextmanager
def convolution():
    """Have `build_network` build one convolution within the block."""
    unet = networks.NETWORKS["unet"]
    networks.NETWORKS["unet"] = dataclasses.replace(unet, build=build_convolution)
    try:
        yield
    finally:
        networks.NETWORKS["unet"] = unet


def train(argv, output):
    """Run the command with its output in a file; return the exit status."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    with convolution():
        status = train_main(argv)
    sys.stdout.flush()
    return status


def start(line):
    """Start a process that runs a command; return its id."""
    if keras.backend.backend() == "jax":  # which does not work in a fork
        command = [sys.executable, __file__, line]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL).pid
    child = os.fork()
    if child == 0:
        os._exit(train(*json.loads(line)))
    return child


def main():
    for line in sys.stdin:
        child = start(line)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(train(*json.loads(sys.argv[1])))
    main()
