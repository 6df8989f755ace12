"""Train on several virtual processors, as `test_devices` asks; in a process of its own.

The words are JSON: the number of processors, the backend, and for each training its
arguments and the file of its output. The exit status is the greatest of the trainings'.
"""

import json
import os
import sys

import numpy as np


def split_processor(count, backend):
    """Make the processor look like several devices."""
    if backend == "jax":
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
        return
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(processor, parts)


def check_replicas():
    """Train, and check that the copies of each variable are the same."""
    from training_server import convolution

    from ddpm_keras import Config, draw_flowers
    from ddpm_keras.data.batches import make_batches
    from ddpm_keras.devices import distributed
    from ddpm_keras.runs.build import build_model

    with convolution(), distributed(4) as count:
        assert count == 2
        model = build_model(Config(img_size=8, first_conv_channels=8, ema=0.5))
        batches, steps = make_batches(draw_flowers(8, 8), 4, 3)
        model.fit(batches, steps_per_epoch=steps, epochs=3, verbose=0)
        for variable in [*model.variables, *model.optimizer.variables]:
            first, second = variable.value.values
            np.testing.assert_array_equal(first, second, variable.path)


def main(count, backend, runs):
    split_processor(count, backend)
    from training_server import train

    statuses = [train(argv, output) for argv, output in runs]
    if backend == "tensorflow" and count == 2:
        check_replicas()
    sys.exit(max(statuses))  # as scripts do; hosts take leave of each other then


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
