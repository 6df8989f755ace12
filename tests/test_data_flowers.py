"""Flowers drawn by code."""

import colorsys

import numpy as np
import pytest

from ddpm_keras.data import flowers
from ddpm_keras.data.flowers import (
    draw_flower,
    draw_flowers,
    draw_labelled_flowers,
)
from ddpm_keras.errors import ArgumentError


def radius_of_pixels(size):
    """Distance of each pixel from the middle; the nearest border is at 1."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    return np.hypot(axis[:, None], axis[None, :])


def bloom_colours(images):
    """Mean colour of the ring where the petals are, one row per image."""
    radius = radius_of_pixels(images.shape[1])
    return images[:, (radius > 0.3) & (radius < 0.5)].mean(axis=1)


def test_flower_depends_on_seed_and_index_only():
    few = draw_flowers(3, 24, seed=5)
    np.random.default_rng(0).random(10)
    many = draw_flowers(6, 24, seed=5)
    np.testing.assert_array_equal(few, many[:3])
    for index in reversed(range(6)):
        np.testing.assert_array_equal(draw_flower(5, index, 24), many[index])


def test_global_random_state_is_neither_used_nor_changed():
    np.random.seed(1)
    first = draw_flower(0, 0, 16)
    after = np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    np.random.seed(2)
    np.testing.assert_array_equal(draw_flower(0, 0, 16), first)


def test_another_seed_or_index_is_another_flower():
    # Also (0, 1) and (1, 0): the seed and the index are not just added up.
    drawn = [draw_flower(s, i, 16) for s in range(4) for i in range(4)]
    assert len({flower.tobytes() for flower in drawn}) == 16
    assert not np.array_equal(draw_flowers(2, 16), draw_flowers(2, 16, seed=1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("img_size", "sides"),
    [
        (1, (1, 1)),
        (24, (24, 24)),
        (np.int64(24), (24, 24)),
        ((20, 33), (20, 33)),
        ([33, 20], (33, 20)),
    ],
)
def test_shape_and_dtype(img_size, sides, channels):
    one = draw_flower(0, 0, img_size, channels)
    assert one.shape == (*sides, channels)
    assert one.dtype == np.uint8
    several = draw_flowers(2, img_size, channels)
    assert several.shape == (2, *sides, channels)
    assert several.dtype == np.uint8
    np.testing.assert_array_equal(several[0], one)


def test_range_is_used():
    images = draw_flowers(100, 32)
    assert images.min() < 15
    assert images.max() > 240


def test_grayscale_is_the_luminance():
    colour = draw_flowers(8, 32).astype(float)
    gray = draw_flowers(8, 32, img_channels=1)[..., 0]
    np.testing.assert_allclose(gray, colour @ [0.299, 0.587, 0.114], atol=1.01)


def test_non_square_image_extends_the_square_one():
    # The extra columns are on both sides, and the bloom is not stretched.
    square = draw_flower(3, 1, 24)
    np.testing.assert_allclose(
        draw_flower(3, 1, (24, 40))[:, 8:32].astype(int), square, atol=1
    )
    np.testing.assert_allclose(
        draw_flower(3, 1, (40, 24))[8:32].astype(int), square, atol=1
    )


@pytest.mark.parametrize("size", [16, 24, 32])
def test_same_flower_at_every_size(size):
    small = draw_flowers(20, size).astype(float)
    large = draw_flowers(20, 2 * size).astype(float)
    averaged = large.reshape(20, size, 2, size, 2, 3).mean(axis=(2, 4))
    error = np.abs(small - averaged).mean(axis=(1, 2, 3))
    assert error.max() < 6
    # Far closer to itself than to another flower.
    other = np.abs(small - np.roll(averaged, 1, axis=0)).mean(axis=(1, 2, 3))
    assert (4 * error < other).all()


def test_colours_vary_but_flowers_are_rarely_green():
    colours = bloom_colours(draw_flowers(200, 24)) / 255
    hues, saturations, _ = np.array([colorsys.rgb_to_hsv(*c) for c in colours]).T
    vivid = hues[saturations > 0.35]
    assert len(vivid) > 120
    assert len(np.unique((12 * vivid).astype(int))) >= 6
    green = (vivid > 0.22) & (vivid < 0.5)
    assert green.mean() < 0.1


def test_bloom_stands_out_from_the_border():
    images = draw_flowers(200, 32).astype(float)
    border = images[:, radius_of_pixels(32) > 1.1].mean(axis=1)
    contrast = np.linalg.norm(bloom_colours(images) - border, axis=-1)
    assert (contrast > 50).mean() > 0.95


def test_bloom_is_near_the_middle_and_large():
    # The mean picture is a round blob: warm in the middle, green at the border.
    mean = draw_flowers(200, 32).mean(axis=0)
    redness = mean[..., 0] - mean[..., 1]
    radius = radius_of_pixels(32)
    rings = [
        redness[(radius > r) & (radius <= r + 0.2)].mean()
        for r in (0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    assert rings == sorted(rings, reverse=True)
    assert rings[1] > 20
    assert rings[-1] < 0


@pytest.mark.parametrize(
    ("shape", "count"),
    [(shape, count) for shape in flowers.SHAPES.values() for count in shape[:2]],
)
def test_whorl_has_the_number_of_petals_asked_for(shape, count):
    # Row r, column c of this canvas is the point at radius r and angle c.
    radius = np.linspace(0, 1, 720)[:, None]
    angle = np.linspace(-np.pi, np.pi, 720, endpoint=False)[None, :]
    canvas = np.zeros((720, 720, 3), "float32")
    rng, white = np.random.default_rng(0), np.ones((2, 3))
    flowers._whorl(canvas, rng, radius, angle, 0.9, count, shape[2:], white)
    # Walk once around the circle near the tips, where there are gaps.
    inside = canvas[round(0.85 * 0.9 * 720), :, 0] > 0.3
    starts = (inside & ~np.roll(inside, 1)).sum()
    is_notched = shape[-1] > 0
    assert starts == (2 * count if is_notched else count)


def test_label_is_the_shape_of_the_petals(monkeypatch):
    images, labels = draw_labelled_flowers(200, 16, seed=5)
    np.testing.assert_array_equal(images, draw_flowers(200, 16, seed=5))
    assert (labels.dtype, labels.shape) == (np.int32, (200,))
    counts = np.bincount(labels, minlength=4)
    assert len(counts) == len(flowers.SHAPES) == 4 and counts.min() > 30

    # With the outlines of the other shapes gone, only flowers of one label stay.
    for label, (name, shape) in enumerate(flowers.SHAPES.items()):
        changed = dict.fromkeys(flowers.SHAPES, flowers.SHAPES["narrow"][:2] + (9,) * 4)
        monkeypatch.setattr(flowers, "SHAPES", changed | {name: shape})
        same = (draw_flowers(200, 16, seed=5) == images).all(axis=(1, 2, 3))
        monkeypatch.undo()
        np.testing.assert_array_equal(same, labels == label)


@pytest.mark.parametrize("channels", [0, 2, 4, "rgb", None])
def test_wrong_channels_raise(channels):
    with pytest.raises(ArgumentError) as error:
        draw_flowers(1, 16, channels)
    assert str(error.value) == (
        f"`img_channels` must be 1 or 3. Received: img_channels={channels!r}"
    )
    assert error.value.keys == ("img_channels",)


@pytest.mark.parametrize(
    "size", [0, -1, 16.0, None, "16", (0, 16), (16, -2), (16,), (16, 16, 3), ()]
)
def test_wrong_size_raises(size):
    with pytest.raises(ArgumentError) as error:
        draw_flower(0, 0, size)
    assert error.value.keys == ("img_size",)


@pytest.mark.parametrize("num_images", [0, -1, 2.5, 2.0, "2", None])
def test_wrong_number_of_images_raises(num_images):
    with pytest.raises(ArgumentError) as error:
        draw_flowers(num_images, 16)
    assert error.value.keys == ("num_images",)
