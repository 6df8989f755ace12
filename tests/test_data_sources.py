"""Choice of the data set's source, and the check before anything is loaded."""

import numpy as np
import pytest
from refusal import refusal

from ddpm_keras.config import Config
from ddpm_keras.data import check_data_set, load_images
from ddpm_keras.data.flowers import draw_flowers


def config_of(**keys):
    """A configuration whose network takes images of any size."""
    return Config(channel_multiplier=[1], has_attention=[False], **keys)


@pytest.mark.parametrize("img_size, channels", [(12, 3), ([8, 12], 1)])
def test_petals_are_the_drawn_flowers(img_size, channels):
    config = config_of(
        dataset_name="petals",
        num_images=3,
        img_size=img_size,
        img_channels=channels,
        seed=4,
    )
    wanted = draw_flowers(3, img_size, channels, seed=4)
    images = load_images(config)
    np.testing.assert_array_equal(images.pixels, wanted)
    assert (images.labels, images.names, images.skipped) == (None, (), ())


@pytest.mark.parametrize("num_images, held_out", [(4, 0), (5, 1), (9, 5)])
def test_enough_images_pass_the_check(tmp_path, num_images, held_out):
    keys = {"batch_size": 4, "validation_fraction": held_out / num_images}
    check_data_set(config_of(dataset_name="petals", num_images=num_images, **keys))
    for k in range(num_images):
        (tmp_path / f"{k}.jpg").touch()  # not an image; the check does not read it
    check_data_set(
        config_of(dataset_name="folder", data_dir=str(tmp_path), **keys, skip_bad=True)
    )


@pytest.mark.parametrize("num_images, held_out", [(3, 0), (5, 2)])
def test_check_refuses_too_few_images(tmp_path, num_images, held_out):
    for k in range(num_images):
        (tmp_path / f"{k}.jpg").touch()
    for source in (
        {"dataset_name": "petals", "num_images": num_images},
        {"dataset_name": "folder", "data_dir": str(tmp_path)},
    ):
        config = config_of(
            **source, batch_size=4, validation_fraction=held_out / num_images
        )
        words = "batch_size: 3 training images do not fill one batch of 4; "
        assert refusal(check_data_set, config).startswith(words)


def test_check_refuses_a_folder_without_images(tmp_path):
    config = config_of(dataset_name="folder", data_dir=str(tmp_path))
    assert refusal(check_data_set, config) == refusal(load_images, config)
    assert "0 images found in" in refusal(check_data_set, config)


def test_check_does_not_load_tfds():
    check_data_set(config_of(dataset_name="no_such_data_set"))
