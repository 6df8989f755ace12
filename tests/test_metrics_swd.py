"""The sliced Wasserstein distance: closed forms, and what it reacts to."""

import math

import numpy as np
import pytest

from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.errors import ArgumentError
from ddpm_keras.metrics.swd import laplacian_level, level_sizes, sliced_wasserstein


@pytest.fixture(scope="module")
def flowers():
    """160 flowers of 32x32 pixels."""
    return draw_flowers(160, 32, 3, seed=0)


def test_equal_sets_are_0_apart(flowers):
    assert sliced_wasserstein(flowers[:20], flowers[:20]) == {
        "32x32": 0.0,
        "16x16": 0.0,
        "mean": 0.0,
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_brighter_set_has_the_closed_form(channels):
    # Images of 16 pixels have one level, and a constant c moves each patch by c / std
    # in all its dims: by c / std * |sum(u)| along a random direction u. The mean of
    # |sum(u)| is sqrt(dims) times the mean of |u_1|.
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (40, 16, 16, channels), "uint8")
    dims = 49 * channels
    mean = math.gamma(dims / 2) / (math.sqrt(math.pi) * math.gamma((dims + 1) / 2))
    expected = 1000.0 * 20.0 / images.std() * math.sqrt(dims) * mean
    # Three standard errors of 128 directions, whose |sum(u)| spread by 75%.
    found = sliced_wasserstein(images, images + np.uint8(20))
    assert found["16x16"] == pytest.approx(expected, rel=3 * 0.75 / math.sqrt(128))


def test_each_fault_shows_where_it_belongs(flowers):
    real, samples = flowers[:80], flowers[80:]
    base = sliced_wasserstein(real, samples)
    wide = samples.astype("int32")
    beside = np.roll(wide, 1, axis=2) + np.roll(wide, -1, axis=2)
    blurred = ((beside + 2 * wide) // 4).astype("uint8")
    darker = (0.7 * samples).astype("uint8")
    noise = np.random.default_rng(0).normal(0.0, 12.0, samples.shape)
    noisy = np.clip(samples + noise, 0, 255).astype("uint8")

    blurred, darker, noisy = (
        sliced_wasserstein(real, images) for images in (blurred, darker, noisy)
    )
    assert blurred["32x32"] > 2.0 * base["32x32"]
    assert blurred["16x16"] < 1.3 * base["16x16"]
    assert noisy["32x32"] > 2.0 * base["32x32"]
    assert noisy["16x16"] < 1.3 * base["16x16"]
    assert darker["16x16"] > 2.0 * base["16x16"]


@pytest.mark.parametrize("shape", [(33, 47, 1), (64, 32, 3), (5, 40, 1), (1, 1, 3)])
def test_any_size(shape):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 3, *shape), "uint8")
    found = sliced_wasserstein(first, second)
    names = [f"{height}x{width}" for height, width in level_sizes(*shape[:2])]
    assert list(found) == [*names, "mean"]
    assert all(np.isfinite(list(found.values()))) and found["mean"] > 0.0


def test_sizes_of_levels():
    assert level_sizes(64, 64) == [(64, 64), (32, 32), (16, 16)]
    assert level_sizes(33, 47) == [(33, 47), (17, 24)]
    assert level_sizes(24, 64) == [(24, 64)]


def test_levels_add_up_to_the_image():
    # Each level is what its halved image, doubled again, lacks. Here the doubling is
    # written out as an interpolation with the same filter.
    images = np.random.default_rng(0).normal(size=(2, 32, 34, 1)).astype("float32")
    fine, coarse = laplacian_level(images, 0), laplacian_level(images, 1)
    assert coarse.shape == (2, 16, 17, 1)

    def double(x, axis):
        x = np.moveaxis(x, axis, 0)
        before, after = np.roll(x, 1, 0), np.roll(x, -1, 0)
        before[0], after[-1] = x[1], x[-1]
        twice = np.stack([(before + 6 * x + after) / 8, (x + after) / 2], axis=1)
        twice = twice.reshape(-1, *x.shape[1:])
        return np.moveaxis(twice, 0, axis)

    whole = fine + double(double(coarse, 1), 2)
    # Except at the far edge, where the filter reflects the zeros between pixels.
    np.testing.assert_allclose(
        whole[:, :-2, :-2], images[:, :-2, :-2], atol=1e-5, rtol=1e-4
    )


def test_other_shapes_are_refused(flowers):
    for real, samples in ((flowers[:5], flowers[:6]), (flowers[:0], flowers[:0])):
        with pytest.raises(ArgumentError) as error:
            sliced_wasserstein(real, samples)
        assert error.value.keys == ("real_images", "sample_images")
