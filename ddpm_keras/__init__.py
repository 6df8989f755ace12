"""Denoising diffusion probabilistic models in Keras 3.

The public names below are loaded at their first use, so that `import ddpm_keras`
and the command lines' checks answer at once, before Keras and its backend load.
"""

import importlib
import os

from ddpm_keras.saved_classes import register_when_keras_loads

# TensorFlow leaves oneDNN off on processors without AVX-512, where it doubles the speed
# of convolutions. It reads this when it is imported; a setting of the user's own wins.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# `keras.models.load_model` finds the classes of this package.
register_when_keras_loads()

__version__ = "0.2.0.dev0"

_HOME = {
    "Config": "config",
    "load_config": "config_file",
    "InputError": "errors",
    "draw_flowers": "data.flowers",
    "Images": "data.images",
    "load_images": "data",
    "make_batches": "data.batches",
    "build_unet": "networks.unet",
    "GaussianDiffusion": "diffusion",
    "DiffusionModel": "model",
    "Denoiser": "denoiser",
    "ReverseProcess": "sampling",
    "make_steps": "samplers",
    "save_weights": "weights",
    "load_weights": "weights",
    "load_network": "weights",
    "read_config": "weights",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted(__all__)
