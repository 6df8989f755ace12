"""Which labels are sampled, and which predictions are mixed for them."""

import numpy as np
import pytest

from ddpm_keras.errors import ArgumentError
from ddpm_keras.labels import (
    NO_LABEL,
    Labels,
    between_labels,
    check_guidance,
    guided_steps,
    make_labels,
    random_labels,
    read_labels,
    spread_labels,
)


def assert_labels(found, labels, weights=None):
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.labels, labels)
    if weights is None:
        assert found.weights is None
        return
    assert found.weights.dtype == np.float32
    np.testing.assert_allclose(found.weights, weights, atol=1e-7)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("all", [0, 1, 2, 3]),
        ("Tulip, 2,tulip", [1, 2, 1]),
        ('"rose, wild",tulip', [0, 1]),
        ("3", [2]),  # a name comes before a number
        ("0", [0]),
        ("tulip\n3\r\naster\n", [1, 2, 3]),
    ],
)
def test_labels_are_read_by_name_or_number(text, wanted):
    assert read_labels(text, ["Rose, wild", "tulip", "3", "aster"]) == wanted


def test_a_name_as_written_comes_before_others_in_its_case():
    assert read_labels("A,a,b", ["A", "a", "B"]) == [0, 1, 2]


def test_one_label_is_that_of_all_images():
    assert_labels(make_labels(2, 3, num_classes=4), [[2], [2], [2]])
    assert_labels(make_labels(np.int64(NO_LABEL), 1, num_classes=4), [[NO_LABEL]])


def test_each_image_has_its_label():
    assert_labels(make_labels([0, 3, NO_LABEL], 3, num_classes=4), [[0], [3], [-1]])
    mixed = between_labels(0, 3, 2)
    assert make_labels(mixed, 2, num_classes=4) is mixed


def test_mixtures_go_from_one_label_to_the_other():
    found = between_labels(4, 1, 3)
    assert_labels(found, [[4, 1]] * 3, [[1, 0], [0.5, 0.5], [0, 1]])
    assert (len(found), found.passes) == (3, 2)
    assert_labels(found.take(np.array([2, 0])), [[4, 1]] * 2, [[0, 1], [1, 0]])


def test_guidance_adds_a_prediction_without_label():
    """none + scale (label - none) = (1 - scale) none + scale label."""
    label = make_labels([5, 6], 2, num_classes=9)
    assert label.guided(1) is label
    assert_labels(label.guided(0), [[-1], [-1]])
    assert_labels(label.guided(3.0), [[-1, 5], [-1, 6]], [[-2, 3], [-2, 3]])
    mixed = between_labels(5, 6, 3).guided(2.0)
    assert_labels(mixed, [[-1, 5, 6]] * 3, [[-1, 2, 0], [-1, 1, 1], [-1, 0, 2]])


@pytest.mark.parametrize(
    "num_images, num_classes, wanted",
    [
        (6, 3, [0, 0, 1, 1, 2, 2]),
        (4, 3, [0, 0, 1, 2]),
        (2, 4, [0, 2]),
        (3, 1, [0, 0, 0]),
    ],
)
def test_images_are_spread_over_the_classes(num_images, num_classes, wanted):
    assert spread_labels(num_images, num_classes).tolist() == wanted


def test_random_labels_are_as_frequent_as_asked():
    found = random_labels(range(3000), [3, 0, 1])
    shares = np.bincount(found, minlength=3) / 3000
    np.testing.assert_allclose(shares, [0.75, 0, 0.25], atol=0.03)
    assert random_labels([2999, 7], [3, 0, 1]).tolist() == [found[2999], found[7]]


@pytest.mark.parametrize(
    "interval, wanted",
    [
        ((0.0, 1.0), [True] * 5),
        ((0.2, 0.8), [False, True, True, True, False]),
        ((0.19, 0.81), [False, True, True, True, True]),
        ((0.0, 0.2), [False, False, False, False, True]),
    ],
)
def test_interval_says_which_steps_are_guided(interval, wanted):
    """The steps start from 1, 0.8, 0.6, 0.4 and 0.2 of the process."""
    timesteps = np.array([99, 79, 59, 39, 19])
    assert guided_steps(timesteps, 100, interval).tolist() == wanted


@pytest.mark.parametrize(
    "labels, num_classes, received",
    [
        (1, 0, "labels=1"),
        (4, 4, "labels=4"),
        (-2, 4, "labels=-2"),
        ([0, 1], 4, "labels=2"),  # for three images
        ([0, 1, 9], 4, "labels=9"),
        (1.0, 4, "labels=1.0"),
        ("rose", 4, "labels='rose'"),
        ([[0, 1, 2]], 4, "labels=[[0, 1, 2]]"),
        (Labels(np.int32([[0]])), 4, "labels=1"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, num_classes, received):
    with pytest.raises(ArgumentError) as error:
        make_labels(labels, 3, num_classes)
    assert str(error.value).endswith(f" Received: {received}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "scale, interval, key",
    [
        (-1.0, (0, 1), "guidance_scale"),
        (float("nan"), (0, 1), "guidance_scale"),
        (float("inf"), (0, 1), "guidance_scale"),
        (2.0, (0.5, 0.5), "guidance_interval"),
        (2.0, (-0.1, 1), "guidance_interval"),
        (2.0, (0, 1.1), "guidance_interval"),
    ],
)
def test_impossible_guidance_is_named(scale, interval, key):
    check_guidance(0.0, (0.0, 0.1))
    with pytest.raises(ArgumentError) as error:
        check_guidance(scale, interval)
    assert error.value.keys == (key,)
