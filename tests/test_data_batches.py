"""Batches of images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from refusal import refusal

from ddpm_keras.data.batches import make_batches, make_validation_batches
from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.data.images import Images


def numbered(count):
    """Images with their number in the left half; the right half is white."""
    images = np.full((count, 2, 4, 1), 255, "uint8")
    images[:, :, :2] = np.arange(count).reshape(-1, 1, 1, 1)
    return images


def read(batches):
    """Return the numbers and the flips of the images in every batch."""
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
def test_every_batch_is_full(count, batch_size):
    batches, steps_per_epoch = make_batches(numbered(count), batch_size, 5)
    assert steps_per_epoch == count // batch_size
    numbers, _ = read(batches)
    assert [len(batch) for batch in numbers] == [batch_size] * steps_per_epoch * 5


def test_epochs_differ_in_order_and_together_cover_every_image():
    numbers, _ = read(make_batches(numbered(11), 4, 30)[0])
    epochs = epochs_of(numbers, steps_per_epoch=2)
    assert all(len(set(epoch)) == 8 for epoch in epochs)  # none twice
    assert len({tuple(epoch) for epoch in epochs}) == 30
    # Each epoch drops 3 of 11 images, and not always the same.
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


def test_every_order_is_equally_likely():
    # In 1,600 epochs each image is at each place 100 times, up to chance.
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
    # Whether skipped to, sharded, or part of a longer training.
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
    # Each image is flipped sometimes, and no batch is flipped as a whole.
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


# Selections, and labels.


def test_batches_of_a_selection_are_those_of_these_images_alone():
    indices = np.array([1, 4, 5, 8, 9, 10, 12])
    some = read(make_batches(numbered(20), 3, 4, indices=indices)[0])
    alone = read(make_batches(numbered(20)[indices], 3, 4)[0])
    for found, wanted in zip(some, alone, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_labels_stay_with_their_images():
    images = Images(numbered(20), np.arange(20) % 3, ("a", "b", "c"))
    indices = np.arange(2, 19)
    training, _ = make_batches(images, 4, 2, indices=indices)
    validation = make_validation_batches(images, 4, indices)
    for batches in (training, validation):
        assert batches.element_spec[1] == tf.TensorSpec((4,), "int32")
        labels = [label for _, label in batches.as_numpy_iterator()]
        numbers, _ = read(batches.map(lambda pixels, label: pixels))
        np.testing.assert_array_equal(labels, np.array(numbers) % 3)


def test_hosts_read_their_shares_of_a_batch_and_nothing_else():
    read = []

    class Noted(np.ndarray):
        def __getitem__(self, rows):
            read.extend(np.ravel(rows))
            return np.asarray(self)[rows]

    images = Images(numbered(20), np.arange(20) % 3)
    indices = np.arange(1, 15)
    for make in (
        lambda i, **share: make_batches(i, 6, 3, seed=4, indices=indices, **share)[0],
        lambda i, **share: make_validation_batches(i, 6, indices, **share),
    ):
        wanted = list(make(images).as_numpy_iterator())
        noted = dataclasses.replace(images, pixels=images.pixels.view(Noted))
        shares = []
        for host in range(3):
            read.clear()
            shares.append(list(make(noted, share=(host, 3)).as_numpy_iterator()))
            assert len(read) == 2 * len(wanted)
        for k, (pixels, labels) in enumerate(wanted):
            parts = [share[k] for share in shares]
            np.testing.assert_array_equal(np.concatenate([p for p, _ in parts]), pixels)
            np.testing.assert_array_equal(np.concatenate([n for _, n in parts]), labels)


# Held-out images.


def test_validation_batches_are_full_and_hold_every_image_in_order():
    indices = np.array([2, 3, 5, 7, 8, 11, 12, 13, 17, 19])
    batches = make_validation_batches(Images(numbered(20)), 4, indices)
    for _ in range(2):
        numbers, flips = read(batches)
        np.testing.assert_array_equal(
            numbers, [[2, 3, 5, 7], [8, 11, 12, 13], [17, 19, 2, 3]]
        )
        assert not np.concatenate(flips).any()
    assert batches.element_spec.dtype == tf.float32
    images = Images(numbered(2))
    (numbers,), _ = read(make_validation_batches(images, 5, np.arange(2)))
    np.testing.assert_array_equal(numbers, [0, 1, 0, 1, 0])
