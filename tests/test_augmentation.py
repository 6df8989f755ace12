"""Augmentation with given numbers, against NumPy and SciPy."""

import numpy as np
import pytest
from keras import ops
from scipy.ndimage import map_coordinates

from ddpm_keras.augmentation import (
    ANISOTROPY,
    NUM_NORMAL,
    NUM_UNIFORM,
    SCALE,
    SHIFT,
    augment,
)
from ddpm_keras.networks.unet_arguments import AUGMENT_DIM

# Where the changes' numbers stand.
COINS = ("flip_x", "flip_y", "turn", "scale", "rotation", "stretch", "shift")
UNIFORM = {"flip_x": 7, "flip_y": 8, "turn": 9, "rotation": 10, "direction": 11}
NORMAL = {"scale": 0, "stretch": 1, "shift_x": 2, "shift_y": 3}


def change(images, coins, **numbers):
    """Make the changes of `coins` with these numbers, the same for every image."""
    uniform = np.full((len(images), NUM_UNIFORM), 0.5, "float32")
    normal = np.zeros((len(images), NUM_NORMAL), "float32")
    uniform[:, :7] = [0.0 if name in coins else 0.9 for name in COINS]
    for name, number in numbers.items():
        table, columns = (uniform, UNIFORM) if name in UNIFORM else (normal, NORMAL)
        table[:, columns[name]] = number
    return run(images, uniform, normal, 0.5)


def run(images, uniform, normal, probability):
    found = augment(ops.convert_to_tensor(images), uniform, normal, probability)
    found = [ops.convert_to_numpy(tensor) for tensor in found]
    assert found[0].shape == images.shape and found[0].dtype == np.float32
    assert found[1].shape == (len(images), AUGMENT_DIM)
    assert found[1].dtype == np.float32
    return found


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def random_numbers(count, seed=1):
    rng = np.random.default_rng(seed)
    uniform = rng.random((count, NUM_UNIFORM), "float32")
    return uniform, rng.standard_normal((count, NUM_NORMAL), "float32")


@pytest.mark.parametrize("shape", [(8, 8), (5, 7)])
def test_probability_0_leaves_images_as_they_are(shape):
    images = draw(20, *shape, 3)
    found, vector = run(images, *random_numbers(20), probability=0.0)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(vector, np.zeros((20, AUGMENT_DIM)))


@pytest.mark.parametrize("shape", [(6, 6), (5, 8)])
def test_flips_are_exact(shape):
    images = draw(2, *shape, 3)
    for name, place, wanted in (
        ("flip_x", 0, images[:, :, ::-1]),
        ("flip_y", 1, images[:, ::-1]),
    ):
        found, vector = change(images, [name], **{name: 0.75})
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(vector[0], np.eye(AUGMENT_DIM)[place])
        found, vector = change(images, [name], **{name: 0.25})  # the coin's other side
        np.testing.assert_array_equal(found, images)
        assert not vector.any()


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("turns, cos, sin", [(1, 0, 1), (2, -1, 0), (3, 0, -1)])
def test_turns_are_exact(size, turns, cos, sin):
    images = draw(2, size, size, 3)
    found, vector = change(images, ["turn"], turn=turns / 4 + 0.1)
    np.testing.assert_array_equal(found, np.rot90(images, turns, axes=(1, 2)))
    wanted = np.zeros(AUGMENT_DIM)
    wanted[2:4] = cos - 1, sin
    np.testing.assert_array_equal(vector, [wanted, wanted])
    back, _ = change(found, ["turn"], turn=(4 - turns) / 4 + 0.1)
    np.testing.assert_array_equal(back, images)


def test_shift_by_whole_pixels():
    """The content moves left and up; beyond the edges it is mirrored."""
    images = draw(2, 6, 10, 3)
    numbers = {"shift_x": 2 / 10 / SHIFT, "shift_y": 3 / 6 / SHIFT}
    found, vector = change(images, ["shift"], **numbers)
    mirrored = np.pad(images, [(0, 0), (0, 3), (0, 2), (0, 0)], "symmetric")
    np.testing.assert_allclose(found, mirrored[:, 3:, 2:], atol=1e-5)
    wanted = np.zeros(AUGMENT_DIM)
    wanted[9:] = 0.2, 0.5
    np.testing.assert_allclose(vector, [wanted, wanted], atol=1e-6)


def places_from(vector, height, width):
    """Where each pixel is taken from, by what the vector says: two arrays, y and x."""
    flip_x, flip_y, turn_cos, turn_sin, scale, cos, sin, *stretch, x, y = np.float64(
        vector
    )
    turn_cos, cos = 1 + turn_cos, 1 + cos
    amount, direction = np.hypot(*stretch), np.arctan2(*stretch[::-1]) / 2
    along = np.array([np.cos(direction), np.sin(direction)])
    across = np.array([-along[1], along[0]])
    matrix = (
        np.diag([1 - 2 * flip_x, 1 - 2 * flip_y])
        @ [[turn_cos, -turn_sin], [turn_sin, turn_cos]]
        @ np.diag([2.0**-scale, 2.0**-scale])
        @ [[cos, -sin], [sin, cos]]
        @ (
            2.0**-amount * np.outer(along, along)
            + 2.0**amount * np.outer(across, across)
        )
    )
    centre = np.array([width - 1, height - 1]) / 2
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns, rows], axis=-1) - centre
    places = pixels @ matrix.T + centre + [x * width, y * height]
    return places[..., 1], places[..., 0]


@pytest.mark.parametrize("shape", [(8, 8), (6, 9)])
def test_vector_says_where_pixels_come_from(shape):
    """All changes at once: SciPy makes them again from the vector alone."""
    images = draw(12, *shape, 2)
    found, vectors = run(images, *random_numbers(12), probability=1.0)
    assert (np.abs(vectors).max(axis=0) > 0.05).all()
    for image, vector, result in zip(images, vectors, found, strict=True):
        places = places_from(vector, *shape)
        for channel in range(2):
            wanted = map_coordinates(
                np.float64(image[..., channel]), places, order=1, mode="reflect"
            )
            np.testing.assert_allclose(result[..., channel], wanted, atol=1e-4)


@pytest.mark.parametrize("probability", [0.2, 1.0])
def test_changes_are_as_frequent_and_large_as_documented(probability):
    """Of 20,000 images: the standard error of a share is below 0.0036."""
    images = np.zeros((20_000, 1, 1, 1), "float32")
    _, vector = run(images, *random_numbers(20_000), probability)
    shares = (np.abs(vector) > 1e-7).mean(axis=0) / probability
    # A coin for each flip; one turn of four is none; 180 degrees have no sine.
    wanted = [0.5, 0.5, 0.75, 0.5, 1, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(shares, wanted, atol=0.015 / probability)
    sizes = np.sqrt((vector**2).mean(axis=0) / probability)
    wanted = {4: SCALE, 9: SHIFT, 10: SHIFT}
    for place, size in wanted.items():
        np.testing.assert_allclose(sizes[place], size, rtol=0.06)
    stretch = np.sqrt((vector[:, 7:9] ** 2).sum(axis=1).mean() / probability)
    np.testing.assert_allclose(stretch, ANISOTROPY, rtol=0.06)
    # Angles are uniform: cos - 1 is -1 on average, and its square 1.5.
    np.testing.assert_allclose(vector[:, 5].mean() / probability, -1, atol=0.06)
    np.testing.assert_allclose(sizes[5] ** 2, 1.5, rtol=0.06)
