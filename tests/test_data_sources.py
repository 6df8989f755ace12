"""Choice of the data set's source, and the check before anything is loaded."""

import numpy as np
import pytest
from refusal import refusal

from ddpm_keras.config import Config
from ddpm_keras.data import check_data_set, load_images
from ddpm_keras.data.flowers import draw_flowers, draw_labelled_flowers
from ddpm_keras.data.images import split_indices


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
    assert list(images.ids) == ["4/0", "4/1", "4/2"]


def test_classes_of_petals_are_all_shapes():
    config = config_of(dataset_name="petals", num_images=2, img_size=8, seed=4)
    images = load_images(config.model_copy(update={"class_labels": True}))
    wanted, labels = draw_labelled_flowers(2, 8, seed=4)
    np.testing.assert_array_equal(images.pixels, wanted)
    np.testing.assert_array_equal(images.labels, labels)
    assert images.names == ("round", "pointed", "notched", "narrow")


def test_class_names_of_the_configuration_must_be_those_of_the_images():
    keys = {"dataset_name": "petals", "num_images": 2, "class_labels": True}
    names = ["round", "pointed", "notched", "narrow"]
    assert load_images(config_of(**keys, class_names=names)).names == tuple(names)
    for wrong, words in (
        (
            ["round", "notched", "pointed", "narrow"],
            "1 is 'pointed' there and 'notched'",
        ),
        (names[:3], "3 is 'narrow' there and missing"),
        ([*names, "wild"], "4 is missing there and 'wild'"),
    ):
        assert refusal(load_images, config_of(**keys, class_names=wrong)) == (
            "class_names: the data set's classes are round, pointed, notched, narrow; "
            f"class {words} in class_names; correct these, or leave the key out"
        )


def sources(folder, num_images):
    """Configurations of so many images in a folder, and drawn."""
    for k in range(num_images):
        (folder / f"{k}.jpg").touch()  # not an image; the check does not read it
    return (
        {"dataset_name": "petals", "num_images": num_images},
        {"dataset_name": "folder", "data_dir": str(folder)},
    )


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.6])
def test_check_knows_how_many_images_are_held_out(tmp_path, fraction):
    ids = [f"0/{k}" for k in range(12)], [f"{k}.jpg" for k in range(12)]
    for source, names in zip(sources(tmp_path, 12), ids, strict=True):
        number = len(split_indices(names, fraction)[0])
        keys = {**source, "validation_fraction": fraction}
        check_data_set(config_of(**keys, batch_size=number))
        message = refusal(check_data_set, config_of(**keys, batch_size=number + 1))
        assert message.startswith(
            f"batch_size: {number} training images do not fill one batch of "
            f"{number + 1}; "
        )


def test_check_refuses_a_folder_without_classes(tmp_path):
    _, folder = sources(tmp_path, 3)
    config = config_of(**folder, batch_size=2, class_labels=True)
    assert refusal(check_data_set, config) == refusal(load_images, config)
    assert refusal(check_data_set, config).startswith("class_labels: '0.jpg' in ")


def test_check_refuses_a_folder_without_images(tmp_path):
    config = config_of(dataset_name="folder", data_dir=str(tmp_path))
    assert refusal(check_data_set, config) == refusal(load_images, config)
    assert "0 images found in" in refusal(check_data_set, config)


def test_check_does_not_load_tfds():
    check_data_set(config_of(dataset_name="no_such_data_set"))


def test_more_flowers_than_memory_are_refused_before_any_is_drawn(monkeypatch):
    config = config_of(dataset_name="petals", num_images=10**12)
    monkeypatch.setattr("ddpm_keras.data.petals.total_memory", lambda: 8 * 10**9)
    message = "num_images: 1,000,000,000,000 flowers are beyond the memory of this mach"
    for function in (check_data_set, load_images):
        assert refusal(function, config).startswith(message)


def test_images_beyond_the_memory_belong_on_the_disk(monkeypatch):
    config = config_of(dataset_name="petals", num_images=9, img_size=8, cache="ram")
    monkeypatch.setattr("ddpm_keras.data.source.total_memory", lambda: 9 * 192 - 1)
    assert refusal(load_images, config).startswith("cache: the images need 0.0 GB, and")
    monkeypatch.setattr("ddpm_keras.data.source.total_memory", lambda: 9 * 192)
    assert len(load_images(config)) == 9


@pytest.mark.parametrize("load", [check_data_set, load_images])
def test_folder_of_images_is_not_taken_for_another_source(tmp_path, load, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "deeper").mkdir(parents=True)
    (tmp_path / "photos" / "deeper" / "a.JPG").touch()
    config = config_of(dataset_name="petals", data_dir="photos")
    assert refusal(load, config) == (
        "data_dir: petals are drawn and read no folder; for the images in photos use "
        "--dataset_name folder, or leave the key out"
    )
    config = config_of(dataset_name="oxford_flowers102", data_dir="photos")
    assert refusal(load, config) == (
        "data_dir: photos holds images, and no data set 'oxford_flowers102' of TFDS; "
        "for these images use --dataset_name folder, or name another folder"
    )
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["deeper"]
    for name in ("photos/deeper", "./photos", "/data/photos", "../photos", "~/photos"):
        assert refusal(load, config_of(dataset_name=name)) == (
            f"dataset_name: {name!r} is a path; for the images in that folder use "
            f"--dataset_name folder --data_dir {name}"
        )


def test_folder_of_tfds_may_hold_pictures(tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "preview.png").touch()
    check_data_set(config_of(dataset_name="mnist:3.0.1", data_dir=str(tmp_path)))
