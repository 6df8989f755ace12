"""A trained network for other programs: as ONNX, as SavedModel, and how to sample it.

Needs the packages of the extra `export`, which are imported where they are used.
"""

import dataclasses
import importlib.util
import json
import logging
import math
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from ddpm_keras.backend import BACKEND, can_export
from ddpm_keras.denoiser import network_inputs
from ddpm_keras.errors import InputError
from ddpm_keras.labels import NO_LABEL
from ddpm_keras.networks.upsampling import UpsampledConv

# Weights of fewer numbers than this stay float32 in a float16 file.
SMALL = 256
CONDITIONS = {
    "image_input": "noisy images x_t, float32 (batch, height, width, channels)",
    "time_input": "timesteps t, int32 (batch,), from 0 to timesteps - 1",
    "label_input": f"labels, int32 (batch,), numbers of class_names; {NO_LABEL}: none",
}


def check_possible():
    """Raise an `InputError` without the extra `export`, or without TensorFlow."""
    if not can_export():
        raise InputError(
            f"KERAS_BACKEND: {BACKEND} cannot export; use tensorflow, which reads the "
            "same weights"
        )
    for name in ("onnx", "tf2onnx"):
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"the package {name} is missing: pip install 'ddpm_keras[export]'"
            )


def network_to_export(denoiser):
    """Return a denoiser's network for other programs, whose layers it may adapt.

    Args:
        denoiser: A `Denoiser`.

    Returns:
        A `keras.Model` over `[image_input, time_input]`, and `label_input` where the
        network knows classes. It needs no description of augmentations: images are
        taken as they are.
    """
    network = denoiser.network
    for layer in network.layers:
        if isinstance(layer, UpsampledConv):
            # Else a file would hold its sums of weights, and float16 round them.
            layer.joined = False
    inputs = [tensor for tensor in network.inputs if tensor.name in CONDITIONS]
    if len(inputs) == len(network.inputs):
        return network
    return keras.Model(inputs, network(network_inputs(network, *inputs)))


def describe(denoiser, network):
    """Describe what a program must know to sample from a network.

    Args:
        denoiser: The `Denoiser`.
        network: What `network_to_export` returns for it.

    Returns:
        A dict that can be written as JSON.
    """
    config, diffusion = denoiser.config, denoiser.diffusion
    return {
        "inputs": {tensor.name: CONDITIONS[tensor.name] for tensor in network.inputs},
        "output": f"{diffusion.prediction_type}, float32, in the shape of the images",
        "image_shape": list(denoiser.image_shape),
        "class_names": list(config.class_names or ()),
        "guidance_scale": config.sample_guidance_scale,
        "clip": [diffusion.clip_min, diffusion.clip_max],
        "prediction_type": diffusion.prediction_type,
        "schedule": diffusion.schedule,
        "timesteps": diffusion.timesteps,
        "alphas_cumprod": diffusion.alphas_cumprod_float64.tolist(),
    }


def make_onnx(network, properties):
    """Convert a network to ONNX, by Keras.

    Args:
        network: What `network_to_export` returns.
        properties: A dict of what to store in the model as metadata: texts, and values
            that are stored as JSON.

    Returns:
        The `onnx.ModelProto`, for any number of images at a time, with inputs named as
        those of the network, and `output`.
    """
    import onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras' own, of NumPy
        path = Path(folder) / "network.onnx"
        signature = [network.inputs]  # without it, Keras wants a call first
        network.export(path, format="onnx", verbose=False, input_signature=signature)
        model = onnx.load(path)
    _rename_output(model.graph, "output")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in properties.items()
    }
    onnx.helper.set_model_props(model, texts)
    return model


def save_saved_model(network, folder):
    """Save a network in TensorFlow's SavedModel format, by Keras."""
    network.export(
        folder,
        format="tf_saved_model",
        verbose=False,
        input_signature=[network.inputs],
    )


def store_as_float16(model):
    """Store the weights of an ONNX model as float16; it computes in float32 as before.

    Half the size, and the numbers of weights that were saved in float16 stay the same.
    Unlike with arithmetic in float16, no sum overflows, and processors without such
    arithmetic run it as fast as a float32 model, since the weights are converted once
    when it is loaded.

    Args:
        model: An `onnx.ModelProto`, which is changed.

    Raises:
        InputError: When a weight is out of float16's range.
    """
    import onnx

    float32, casts = onnx.TensorProto.FLOAT, []
    for tensor in model.graph.initializer:
        if tensor.data_type != float32 or math.prod(tensor.dims) < SMALL:
            continue
        name, array = tensor.name, onnx.numpy_helper.to_array(tensor)
        if np.abs(array).max() > np.finfo("float16").max:
            raise InputError(f"{name} has numbers that float16 cannot hold")
        stored = f"{name}_float16"
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype("float16"), stored))
        cast = onnx.helper.make_node(
            "Cast", [stored], [name], to=onnx.TensorProto.FLOAT
        )
        casts.append(cast)
    nodes = [*casts, *model.graph.node]  # each after those that it needs
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def tabulate(diffusion, plan):
    """Tabulate a sampler so that a program needs no formula but two sums.

    In step i, with the network's `output` for x_t at `timesteps[i]`,

        x_0 = from_x_t x_t + from_output output, clipped
        x_prev = a x_t + b x_0 + c x_0_before + sigma z

    Args:
        diffusion: The `GaussianDiffusion` of the network.
        plan: The `Steps` of a sampler, see `samplers.make_steps`.

    Returns:
        A dict of columns, which are lists: `from_x_t`, `from_output`, and those of
        `Steps`.
    """
    columns = dataclasses.asdict(plan)
    # `predict_start` is linear in the output and in x_t.
    for name, output, x_t in (("from_x_t", 0.0, 1.0), ("from_output", 1.0, 0.0)):
        start = diffusion.predict_start(output, x_t, plan.timesteps)
        columns[name] = np.broadcast_to(start, (len(plan), 1, 1, 1))
    return {name: np.ravel(column).tolist() for name, column in columns.items()}


def _rename_output(graph, name):
    old = graph.output[0].name
    for node in graph.node:
        for names in (node.input, node.output):
            for place, other in enumerate(names):
                if other == old:
                    names[place] = name
    graph.output[0].name = name
