"""Images from their three sources, and the batches that training reads."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ddpm_keras.config import Config
from ddpm_keras.data import (
    decode_image,
    load_images,
    make_batches,
    make_validation_batches,
    split_images,
)
from ddpm_keras.errors import InputError
from ddpm_keras.petals import draw_flower, draw_flowers


def config_of(**keys):
    """A configuration whose network takes images of any size."""
    return Config(channel_multiplier=[1], has_attention=[False], **keys)


def numbered(count):
    """Images that tell their number, in the left half; the right half is white."""
    images = np.full((count, 2, 4, 1), 255, "uint8")
    images[:, :, :2] = np.arange(count).reshape(-1, 1, 1, 1)
    return images


def read(batches):
    """Numbers and flips of the images of every batch, two lists of arrays."""
    numbers, flips = [], []
    for batch in batches.as_numpy_iterator():
        pixels = np.rint((batch + 1) * 127.5).astype(int)
        flipped = pixels[:, 0, 0, 0] == 255
        upright = np.where(flipped[:, None, None, None], pixels[:, :, ::-1], pixels)
        np.testing.assert_array_equal(upright, numbered(255)[upright[:, 0, 0, 0]])
        numbers.append(upright[:, 0, 0, 0])
        flips.append(flipped)
    return numbers, flips


def epochs_of(numbers, steps_per_epoch):
    return np.reshape(numbers, (-1, steps_per_epoch * len(numbers[0])))


def refusal(function, *args, **kwargs):
    with pytest.raises(InputError) as error:
        function(*args, **kwargs)
    return str(error.value)


# Training batches.


def test_batches_are_floats_from_minus_1_to_1():
    images = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    batches, steps_per_epoch = make_batches(images, 1, 3, random_flip=False)
    assert batches.element_spec == tf.TensorSpec((1, 16, 16, 1), "float32")
    assert steps_per_epoch == 1
    for batch in batches.as_numpy_iterator():
        np.testing.assert_allclose(batch, images / 127.5 - 1, atol=1e-6)
        assert (batch.min(), batch.max()) == (-1, 1)


@pytest.mark.parametrize("count, batch_size", [(11, 4), (12, 4), (3, 3), (1, 1)])
def test_batches_are_whole_and_as_many_as_said(count, batch_size):
    batches, steps_per_epoch = make_batches(numbered(count), batch_size, 5)
    assert steps_per_epoch == count // batch_size
    numbers, _ = read(batches)
    assert [len(batch) for batch in numbers] == [batch_size] * steps_per_epoch * 5


def test_epochs_differ_in_order_and_between_them_miss_no_image():
    numbers, _ = read(make_batches(numbered(11), 4, 30)[0])
    epochs = epochs_of(numbers, steps_per_epoch=2)
    assert all(len(set(epoch)) == 8 for epoch in epochs)  # none twice
    assert len({tuple(epoch) for epoch in epochs}) == 30
    # 8 of 11 have their turn, and not always the same: after 30 epochs, all.
    assert set(epochs.flat) == set(range(11))
    assert len({frozenset(epoch) for epoch in epochs}) > 10


def test_images_are_shuffled_across_the_whole_set():
    # Not only within a window: the first batch reaches both ends of the images.
    numbers, _ = read(make_batches(numbered(200), 20, 1)[0])
    assert numbers[0].min() < 50 and numbers[0].max() >= 150


def test_seed_decides_batches_and_flips():
    def batches(seed):
        made = make_batches(draw_flowers(9, 4), 4, 3, seed=seed)[0]
        return np.concatenate(list(made.as_numpy_iterator()))

    np.testing.assert_array_equal(batches(5), batches(5))
    assert not np.array_equal(batches(5), batches(6))
    assert batches(2**31 - 1).shape == batches(0).shape


def test_every_bit_of_the_seed_matters_to_order_and_to_flips():
    orders, flips = set(), set()
    for seed in (0, 1, 2**16, 2**24, 2**31 - 1):
        order, flip = read(make_batches(numbered(32), 32, 1, seed=seed)[0])
        orders.add(tuple(order[0]))
        flips.add(tuple(flip[0]))
    assert (len(orders), len(flips)) == (5, 5)


def test_every_order_is_as_likely_as_another():
    # How often each image is at each place, in 1,600 epochs: 100 times, up to chance.
    numbers, _ = read(make_batches(numbered(16), 16, 1600)[0])
    counts = np.zeros((16, 16))
    for order in numbers:
        counts[np.arange(16), order] += 1
    chi_squared = ((counts - 100) ** 2 / 100).sum()
    assert chi_squared == pytest.approx(15**2, abs=5 * (2 * 15**2) ** 0.5)


def test_batches_are_the_same_when_read_again():
    batches, _ = make_batches(numbered(11), 4, 3)
    for first, again in zip(read(batches), read(batches), strict=True):
        np.testing.assert_array_equal(first, again)


def test_step_depends_on_its_number_alone():
    every = list(make_batches(numbered(11), 4, 4)[0].as_numpy_iterator())
    # Begun later, with every second step left out, or in a longer training.
    later = make_batches(numbered(11), 4, 4)[0].skip(5).as_numpy_iterator()
    np.testing.assert_array_equal(list(later), every[5:])
    second = make_batches(numbered(11), 4, 4)[0].shard(2, 1).as_numpy_iterator()
    np.testing.assert_array_equal(list(second), every[1::2])
    longer = make_batches(numbered(11), 4, 9)[0].take(8).as_numpy_iterator()
    np.testing.assert_array_equal(list(longer), every)


def test_half_of_the_images_are_flipped_anew_each_time():
    numbers, flips = read(make_batches(numbered(64), 16, 40)[0])
    numbers, flips = np.concatenate(numbers), np.concatenate(flips)
    assert flips.mean() == pytest.approx(0.5, abs=0.04)  # of 2,560
    # Each image now and then, and the images of one batch not all together.
    shares = [flips[numbers == number].mean() for number in range(64)]
    assert 0.1 < min(shares) and max(shares) < 0.9
    in_batches = flips.reshape(-1, 16).mean(axis=1)
    assert 0 < in_batches.min() and in_batches.max() < 1


def test_no_image_is_flipped_when_flips_are_off():
    batches, _ = make_batches(numbered(16), 4, 10, random_flip=False)
    assert not np.any(read(batches)[1])


def test_flips_do_not_change_the_order():
    flipped = read(make_batches(numbered(11), 4, 5)[0])[0]
    plain = read(make_batches(numbered(11), 4, 5, random_flip=False)[0])[0]
    np.testing.assert_array_equal(flipped, plain)


def test_flip_mirrors_left_and_right_and_keeps_colours():
    images = draw_flowers(8, (6, 10))
    order = read(make_batches(numbered(8), 8, 1)[0])
    batch = next(make_batches(images, 8, 1)[0].as_numpy_iterator())
    for pixels, number, flipped in zip(batch, order[0][0], order[1][0], strict=True):
        wanted = images[number][:, ::-1] if flipped else images[number]
        np.testing.assert_array_equal(np.rint((pixels + 1) * 127.5), wanted)


@pytest.mark.parametrize("count", [0, 3])
def test_fewer_images_than_a_batch_are_refused(count):
    assert refusal(make_batches, numbered(count), 4, 1) == (
        f"batch_size: {count} training images do not fill one batch of 4; "
        "add images or make batch_size smaller"
    )


# Held-out images.


def test_validation_batches_hold_every_image_once_in_order():
    batches = make_validation_batches(numbered(10), 4)
    for _ in range(2):
        numbers, flips = read(batches)
        assert [len(batch) for batch in numbers] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate(numbers), np.arange(10))
        assert not np.concatenate(flips).any()
    assert batches.element_spec.dtype == tf.float32


@pytest.mark.parametrize(
    "fraction, held_out", [(0.0, 0), (0.001, 1), (0.1, 2), (0.5, 10), (0.999, 20)]
)
def test_split_is_disjoint_and_complete(fraction, held_out):
    train, held = split_images(numbered(20), fraction, seed=0)
    assert (len(train), len(held)) == (20 - held_out, held_out)
    together = [*train[:, 0, 0, 0], *held[:, 0, 0, 0]]
    assert sorted(together) == list(range(20))


def test_split_depends_on_the_seed_alone():
    held = [split_images(numbered(50), 0.2, seed)[1][:, 0, 0, 0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(held[0], held[1])
    assert set(held[0]) != set(held[2])
    # A random part: not one end of the images.
    assert held[0].min() < 40 and held[0].max() >= 10


# Crop and resize.


def folder_config(folder, img_size=8, **keys):
    return config_of(
        dataset_name="folder", data_dir=str(folder), img_size=img_size, **keys
    )


def through_folder(folder, pixels, **keys):
    """One image, written as a PNG and loaded from its folder."""
    Image.fromarray(pixels).save(folder / "a.png")
    return load_images(folder_config(folder, **keys))[0]


@pytest.mark.parametrize(
    "sides, img_size, rows, columns",
    [
        # Height and width before and after; the rows and columns cut out.
        ((16, 16), 16, (0, 16), (0, 16)),
        ((64, 96), 16, (0, 64), (16, 80)),
        ((96, 64), 16, (16, 80), (0, 64)),
        ((37, 53), 10, (0, 37), (8, 45)),
        ((40, 60), [10, 30], (10, 30), (0, 60)),
        ((40, 60), [30, 10], (0, 40), (23, 36)),
        ((7, 5), 16, (1, 6), (0, 5)),
        ((8, 8), [8, 16], (2, 6), (0, 8)),
    ],
)
def test_centre_is_cut_out_and_resized_as_by_pillow(
    tmp_path, sides, img_size, rows, columns
):
    # Pillow's bilinear filter widens with the factor, which is the antialiasing.
    pixels = draw_flower(0, 1, sides)
    image = through_folder(tmp_path, pixels, img_size=img_size).astype(int)
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    assert image.shape == (height, width, 3)
    centre = Image.fromarray(pixels[slice(*rows), slice(*columns)])
    wanted = np.asarray(centre.resize((width, height), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(image, wanted, atol=1)
    assert abs((image - wanted).mean()) < 0.3  # rounded; cut off it would be -0.5


def test_resized_image_is_the_triangle_filters(tmp_path):
    # From numpy alone: the weights fall linearly to 0 at `factor` from the centre.
    pixels = draw_flower(0, 2, 48)
    factor = 48 / 12
    centres = (np.arange(12) + 0.5) * factor
    weights = 1 - np.abs(np.arange(48) + 0.5 - centres[:, None]) / factor
    weights = np.clip(weights, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    wanted = np.einsum("yr,xc,rck->yxk", weights, weights, pixels)
    image = through_folder(tmp_path, pixels, img_size=12)
    np.testing.assert_allclose(image, wanted, atol=0.51)


def test_fine_pattern_becomes_grey_and_not_a_coarse_one(tmp_path):
    # Each third pixel of this checkerboard is a checkerboard again.
    rows, columns = np.indices((48, 48))
    pixels = np.where((rows + columns) % 2, 255, 0).astype("uint8")
    assert set(pixels[1::3, 1::3].flat) == {0, 255}
    image = through_folder(tmp_path, pixels, img_size=16)
    assert 120 < image.min() and image.max() < 136


def test_nothing_from_outside_the_cut_bleeds_in(tmp_path):
    pixels = np.full((30, 50, 3), (0, 255, 0), "uint8")
    pixels[:, 10:40] = (200, 30, 90)
    image = through_folder(tmp_path, pixels, img_size=7)
    np.testing.assert_array_equal(image, np.full((7, 7, 3), (200, 30, 90)))


def test_very_long_images_are_cut_too(tmp_path):
    for sides in ((1, 500), (500, 1), (1, 1)):
        pixels = np.full((*sides, 3), 77, "uint8")
        for img_size in (4, [2, 9], [9, 2]):
            assert (through_folder(tmp_path, pixels, img_size=img_size) == 77).all()


def test_colour_and_grey_become_what_is_asked_for(tmp_path):
    colour, grey = draw_flower(0, 0, 16), draw_flower(0, 0, 16, 1)
    one = through_folder(tmp_path, colour, img_size=16, img_channels=1)
    assert one.shape == (16, 16, 1)
    np.testing.assert_allclose(one.astype(int), grey, atol=2)
    three = through_folder(tmp_path, grey[..., 0], img_size=16)
    np.testing.assert_array_equal(three, np.repeat(grey, 3, axis=-1))


# Image files.


def decoded(folder, image, name="a.png", channels=3, **options):
    image.save(folder / name, **options)
    pixels = decode_image(str(folder / name), channels)
    assert pixels.dtype == np.uint8
    return pixels.astype(int)


def test_transparency_is_left_out(tmp_path):
    pixels = draw_flower(0, 0, 12)
    for alpha in (0, 128, 255):
        image = Image.fromarray(pixels)
        image.putalpha(alpha)
        np.testing.assert_array_equal(decoded(tmp_path, image), pixels)


def test_palette_becomes_colours(tmp_path):
    image = Image.fromarray(draw_flower(0, 0, 12)).quantize(8)
    assert image.mode == "P"
    wanted = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decoded(tmp_path, image), wanted)
    assert len(np.unique(wanted.reshape(-1, 3), axis=0)) > 4


def test_print_colours_become_screen_colours(tmp_path):
    image = Image.new("RGB", (16, 16), (200, 40, 60)).convert("CMYK")
    pixels = decoded(tmp_path, image, "a.jpg", quality=95)
    np.testing.assert_allclose(pixels, np.full((16, 16, 3), (200, 40, 60)), atol=8)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_keep_their_brightness(tmp_path, channels):
    # 8 bits k are 257 * k in 16; the 99 more are a matter of rounding.
    values = np.minimum(257 * np.arange(256) + 99, 65535).reshape(16, 16)
    image = Image.fromarray(values.astype("uint16"))
    assert image.mode.startswith("I")
    pixels = decoded(tmp_path, image, channels=channels)
    wanted = np.repeat(np.arange(256).reshape(16, 16, 1), channels, axis=-1)
    np.testing.assert_allclose(pixels, wanted, atol=1)


def test_black_and_white_is_0_and_255(tmp_path):
    image = Image.fromarray(draw_flower(0, 0, 12, 1)[..., 0] > 99)
    assert image.mode == "1"
    wanted = np.where(np.asarray(image)[..., None], 255, 0)
    np.testing.assert_array_equal(decoded(tmp_path, image, channels=1), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path, orientation):
    upright = draw_flower(0, 3, (16, 24))
    # How the camera stores what is upright, after the EXIF standard.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    pixels = decoded(tmp_path, image, "a.png", exif=exif)
    np.testing.assert_array_equal(pixels, upright)
    pixels = decoded(tmp_path, image, "a.jpg", exif=exif, quality=100, subsampling=0)
    np.testing.assert_allclose(pixels, upright, atol=6)


# A folder of images.

NAMES = ["a.png", "b.bmp", "b/flower.JPG", "c/d/rose ü é.webp", "c/e.jpeg", "d.Png"]


def fill(folder, names, size=8):
    """Image k is grey 40 * k, so that one sees which it is."""
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (40 * k,) * 3).save(folder / name)


def test_folder_is_read_to_its_leaves_in_the_order_of_paths(tmp_path):
    fill(tmp_path, NAMES)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "c" / "png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    images = load_images(folder_config(tmp_path))
    assert (images.dtype, images.shape) == (np.uint8, (6, 8, 8, 3))
    greys = np.rint(images.mean(axis=(1, 2, 3)) / 40)
    np.testing.assert_array_equal(greys, [0, 1, 2, 3, 4, 5])


def test_link_to_a_parent_folder_ends_nowhere(tmp_path):
    fill(tmp_path, NAMES)
    (tmp_path / "c" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(load_images(folder_config(tmp_path))) == 6


def test_link_to_an_image_is_an_image(tmp_path):
    fill(tmp_path, ["elsewhere/a.png"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    assert len(load_images(folder_config(tmp_path / "data"))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_name_that_is_not_utf_8_is_a_name(tmp_path):
    fill(tmp_path, ["a.png"])
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    assert len(load_images(folder_config(tmp_path))) == 1


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_missing_folder_is_told(tmp_path, kind):
    folder = tmp_path / "data"
    if kind == "file":
        folder.touch()
    assert refusal(load_images, folder_config(folder)) == (
        f"data_dir: {folder} is not a folder; name one with images"
    )


def test_folder_without_images_is_told(tmp_path):
    (tmp_path / "a.txt").touch()
    assert refusal(load_images, folder_config(tmp_path)) == (
        f"data_dir: 0 images found in {tmp_path} (looked for .jpg, .jpeg, .png, "
        ".bmp, .webp); name a folder that holds some"
    )


def test_broken_image_is_named(tmp_path):
    fill(tmp_path, NAMES)
    broken = tmp_path / "c" / "broken.png"
    broken.write_text("no image")
    assert refusal(load_images, folder_config(tmp_path)) == (
        f"data_dir: cannot read the image {broken} (cannot identify image file "
        f"{str(broken)!r}); remove or replace it"
    )


def test_broken_images_are_counted_and_the_first_named(tmp_path):
    fill(tmp_path, NAMES, size=64)
    for name in ("b/flower.JPG", "c/e.jpeg", "d.Png"):  # the ends are missing
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) * 3 // 4])
    message = refusal(load_images, folder_config(tmp_path))
    start = f"data_dir: cannot read the image {tmp_path / 'b/flower.JPG'} ("
    assert message.startswith(start)
    assert message.endswith(") and 2 more; remove or replace it")
    assert "\n" not in message


# TensorFlow Datasets.


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """`oxford_flowers102`, a few flowers in place of its own, and `words`."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("tfds")
    flowers = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(num_classes=102),
            "file_name": tfds.features.Text(),
        }
    )

    def example(k):
        file = io.BytesIO()
        image = Image.fromarray(draw_flower(0, k, 16))
        image.save(file, "jpeg", quality=100, subsampling=0)
        file.seek(0)
        return {"image": file, "label": k, "file_name": f"image_{k:05d}.jpg"}

    splits = {"train": range(0, 5), "test": range(5, 8), "validation": range(8, 12)}
    write_tfds(root / "oxford_flowers102" / "2.1.1", flowers, splits, example)
    text = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    splits = {"train": range(2)}
    write_tfds(root / "words" / "1.0.0", text, splits, lambda k: {"text": str(k)})
    return root


def write_tfds(folder, features, splits, example):
    import tensorflow_datasets as tfds

    folder.mkdir(parents=True)
    infos = []
    for split, numbers in splits.items():
        records = [features.serialize_example(example(k)) for k in numbers]
        name = f"{folder.parent.name}-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for record in records:
                writer.write(record)
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(records)],
                num_bytes=sum(map(len, records)),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=features,
        split_infos=infos,
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )


def tfds_config(folder, img_size=16, **keys):
    return config_of(data_dir=str(folder), img_size=img_size, **keys)


def assert_flowers(images, numbers, channels=3):
    wanted = [draw_flower(0, k, 16, channels) for k in numbers]
    assert images.dtype == np.uint8
    assert images.shape == np.shape(wanted)
    # JPEG changes colours a little; another flower is far off.
    difference = np.abs(images.astype(int) - wanted).mean(axis=(1, 2, 3))
    assert difference.max() < 8


def test_tfds_train_split_is_read(tfds_dir):
    assert_flowers(load_images(tfds_config(tfds_dir)), range(5))


def test_tfds_splits_are_joined(tfds_dir):
    config = tfds_config(tfds_dir, splits=["train", "validation"])
    assert_flowers(load_images(config), [0, 1, 2, 3, 4, 8, 9, 10, 11])


def test_tfds_images_are_resized_and_grey_if_asked(tfds_dir):
    config = tfds_config(tfds_dir, splits=["test"], img_channels=1)
    assert_flowers(load_images(config), range(5, 8), channels=1)
    images = load_images(tfds_config(tfds_dir, img_size=[4, 8]))
    assert images.shape == (5, 4, 8, 3)


def test_tfds_data_dir_of_the_environment_is_read(tfds_dir, tmp_path):
    # TFDS looks at the variable when it is imported: this needs its own process.
    code = (
        "import numpy; from ddpm_keras import Config, load_images; "
        "config = Config(img_size=16, splits=['validation', 'train']); "
        "numpy.save('images.npy', load_images(config))"
    )
    environment = {**os.environ, "TFDS_DATA_DIR": str(tfds_dir)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    images = np.load(tmp_path / "images.npy")
    assert_flowers(images, [8, 9, 10, 11, 0, 1, 2, 3, 4])


def test_unknown_split_is_told_with_those_there_are(tfds_dir):
    config = tfds_config(tfds_dir, splits=["train", "valid"])
    assert refusal(load_images, config) == (
        "splits: 'oxford_flowers102' has no split 'valid'; "
        "it has train, test, validation"
    )


def test_unknown_data_set_is_told(tfds_dir):
    config = tfds_config(tfds_dir, dataset_name="oxford_flower")
    assert refusal(load_images, config) == (
        "dataset_name: no TFDS data set is called 'oxford_flower'; use one of "
        'tensorflow.org/datasets, or "petals", or "folder"'
    )


@pytest.mark.parametrize(
    "name", ["Oxford Flowers", "a/b/c", "oxford_flowers102:9.9.9", "words/big"]
)
def test_impossible_data_set_names_are_told(tfds_dir, name):
    message = refusal(load_images, tfds_config(tfds_dir, dataset_name=name))
    assert message.startswith("dataset_name: ")
    assert repr(name) in message


def test_data_set_without_images_is_told(tfds_dir):
    config = tfds_config(tfds_dir, dataset_name="words")
    assert refusal(load_images, config) == (
        "dataset_name: 'words' has no feature called image"
    )


# Petals.


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
    np.testing.assert_array_equal(load_images(config), wanted)
