"""Conversion of pixels, grids, and the pictures that are written."""

import numpy as np
import pytest
from PIL import Image

from ddpm_keras.data.flowers import draw_flower, draw_flowers
from ddpm_keras.data.pixels import (
    make_grid,
    save_png,
    to_uint8,
)


def test_every_byte_survives_a_round_trip():
    pixels = np.arange(256, dtype="uint8").reshape(4, 8, 8)
    again = to_uint8(pixels.astype("float32") / 127.5 - 1)
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, pixels)


def test_values_are_rounded_not_truncated():
    steps = np.array([0.0, 0.4, 0.6, 99.4, 99.6, 254.4, 254.6, 255.0])
    nearest = [0, 0, 1, 99, 100, 254, 255, 255]
    np.testing.assert_array_equal(to_uint8(steps / 127.5 - 1), nearest)


def test_values_outside_the_range_are_clipped_and_do_not_wrap():
    values = [-np.inf, -100.0, -1.02, -1.0, 1.0, 1.02, 100.0, np.inf]
    np.testing.assert_array_equal(to_uint8(values), [0] * 4 + [255] * 4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_grid_has_each_image_at_its_place_on_white(channels, padding):
    images = draw_flowers(5, (4, 6), channels)
    grid = make_grid(images, num_cols=3, padding=padding)
    sides = (2 * 4 + 3 * padding, 3 * 6 + 4 * padding)
    assert grid.dtype == np.uint8
    assert grid.shape == (sides if channels == 1 else (*sides, 3))

    grid = grid.reshape(*sides, channels)
    ground = np.ones(sides, bool)
    for k, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        top, left = padding + row * (4 + padding), padding + column * (6 + padding)
        place = np.s_[top : top + 4, left : left + 6]
        np.testing.assert_array_equal(grid[place], images[k])
        ground[place] = False
    assert (grid[ground] == 255).all()


@pytest.mark.parametrize(
    "num_images, rows, columns",
    [(1, 1, 1), (2, 1, 2), (4, 2, 2), (5, 2, 3), (7, 3, 3), (16, 4, 4)],
)
def test_grid_is_as_square_as_possible(num_images, rows, columns):
    grid = make_grid(np.zeros((num_images, 4, 4, 3)), padding=0)
    assert grid.shape == (4 * rows, 4 * columns, 3)


def test_grid_of_floats_is_that_of_their_pixels():
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 3))
    np.testing.assert_array_equal(make_grid(images), make_grid(to_uint8(images)))


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_png_holds_the_same_pixels(tmp_path, channels, mode):
    pixels = draw_flower(0, 0, (12, 20), channels)
    pixels = pixels[..., 0] if channels == 1 else pixels
    path = tmp_path / "folder" / "a.png"
    save_png(path, pixels)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert list(path.parent.iterdir()) == [path]


def test_png_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.png"
    save_png(path, draw_flower(0, 0, 8))
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        save_png(path, np.zeros((8, 8, 7), "uint8"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
