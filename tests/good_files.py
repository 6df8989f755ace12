"""The weights of one network in every supported format."""

import shutil
from pathlib import Path

from ddpm_keras.config import Config
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.model import DiffusionModel
from ddpm_keras.networks.unet import build_unet
from ddpm_keras.weights import load_weights, save_weights
from ddpm_keras.weights.keras3 import save_hdf5

GOLDEN = Path(__file__).parent / "golden" / "keras2_checkpoint_tiny"
CONFIG = Config(  # of the golden network
    img_size=16,
    first_conv_channels=16,
    channel_multiplier=[1, 2],
    has_attention=[False, True],
    num_res_blocks=1,
)


def write_good_files(folder, randomise):
    """Write the golden weights in every format, and return the folder.

    The files: checkpoint.index and so on, keras2.h5, keras3.weights.h5,
    ours.safetensors, run/, and model.weights.h5, a whole `DiffusionModel` with these
    weights as its average.
    """
    for file in GOLDEN.glob("diffusion_model*"):
        name = file.name.removeprefix("diffusion_model_")
        shutil.copy(file, folder / name.replace("diffusion_model.h5", "keras2.h5"))
    network = build_unet(**CONFIG.network_arguments())
    load_weights(network, folder / "keras2.h5")
    save_weights(network, folder / "ours.safetensors", CONFIG)
    save_weights(network, folder / "run" / "weights.safetensors", CONFIG)
    save_hdf5(network, folder / "keras3.weights.h5")
    model = DiffusionModel(network, None, GaussianDiffusion(), seed=0)
    model.compile(loss="mean_squared_error", optimizer="adam")
    randomise(model.network, seed=1)  # must not be loaded
    model.save_weights(folder / "model.weights.h5")
    return folder
