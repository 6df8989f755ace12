"""The real images that samples are measured against."""

from pathlib import Path

from ddpm_keras.config import load_config
from ddpm_keras.errors import InputError
from ddpm_keras.images import shown_shape
from ddpm_keras.measures.evaluate_flags import METRICS, OF_REAL
from ddpm_keras.run_folder import CONFIG


def choose_data(args, config):
    """The configuration whose data keys name the training images."""
    if args.data is None:
        return config
    path = Path(args.data)
    if path.is_dir() and not (path / CONFIG).is_file():
        return config.model_copy(
            update={"dataset_name": "folder", "data_dir": str(path)}
        )
    data_config = load_config(path / CONFIG if path.is_dir() else path)
    shape, wanted = data_config.image_shape, config.image_shape
    if shape != wanted:
        raise InputError(
            f"--data: {path} has images of {shown_shape(shape)}, and the network makes "
            f"{shown_shape(wanted)}; name a configuration with its size"
        )
    return data_config


def load_real(args, metrics, data_config):
    """The images that training saw, and those it held out."""
    from ddpm_keras.data import load_images, split_images

    images = load_images(data_config)
    training, held_out = split_images(
        images, data_config.validation_fraction, data_config.seed
    )
    if args.against == "held-out" and not len(held_out) and metrics & OF_REAL:
        raise InputError(
            "--against: no image was held out (validation_fraction is 0); use training"
        )
    compared = training if args.against == "training" else held_out
    for name in METRICS:
        # Two of each: the halves of the real images are measured as well.
        least = 2 * METRICS[name] if name in OF_REAL else 0
        if name in metrics and len(compared) < least:
            raise InputError(
                f"--data: {name} needs {least} or more {args.against} images; there "
                f"are {len(compared)}"
            )
    if "nn" in metrics and len(training) < 3:
        raise InputError(
            f"--data: nn needs 3 or more training images; there are {len(training)}"
        )
    return training, held_out


def describe_data(config, training, held_out):
    """What the protocol tells of the real images."""
    names = ("dataset_name", "splits", "data_dir", "validation_fraction", "seed")
    return {name: getattr(config, name) for name in names} | {
        "training_images": len(training),
        "held_out_images": len(held_out),
        "size": shown_shape(training.shape[1:]),
        "resize": "drawn at this size"
        if config.dataset_name == "petals"
        else "centre crop, antialiased bilinear",
    }
