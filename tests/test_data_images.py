"""A data set in memory, and its split into training and held-out images."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from ddpm_keras.data.images import Images, split_indices
from ddpm_keras.labels import NO_LABEL

PIXELS = np.random.default_rng(0).integers(0, 256, (5000, 2, 2, 1), "uint8")


@pytest.mark.parametrize(
    "indices", [np.array([7, 2, 2]), slice(3, 9, 2), np.arange(5000) % 7 == 0]
)
def test_selection_keeps_all_of_an_image_together(indices):
    labels, names = np.arange(5000) % 3, ("a", "b", "c")
    ids = [f"{k}.png" for k in range(5000)]
    some = Images(PIXELS, labels, names, ids).take(indices)
    chosen = np.arange(5000)[indices]
    np.testing.assert_array_equal(some.pixels, PIXELS[chosen])
    np.testing.assert_array_equal(some.labels, chosen % 3)
    assert list(some.ids) == [f"{k}.png" for k in chosen]
    assert (some.names, len(some)) == (names, len(chosen))
    again = some.take(slice(1, None))  # of a selection, and still of no copy
    np.testing.assert_array_equal(again.pixels, PIXELS[chosen[1:]])
    assert again.pixels.array is PIXELS
    assert again.digest(np.arange(2)) == Images(PIXELS, labels).digest(chosen[1:3])


def test_classes_are_numbered_as_in_another_list():
    images = Images(PIXELS[:4], [0, 1, 2, 1], ("b", "a", "c"))
    found = images.with_names(["a", "b"])
    assert found.labels.tolist() == [1, 0, NO_LABEL, 0]
    assert found.names == ("a", "b")


def test_images_are_identified_by_their_index_unless_told():
    images = Images(PIXELS[:3])
    assert list(images.ids) == ["0", "1", "2"]
    assert list(images.take(np.array([2, 0])).ids) == ["2", "0"]
    assert images.labels is None and images.take(slice(2)).labels is None


def test_digest_depends_on_the_images_chosen_and_their_order():
    indices = np.arange(1, 5000)
    digest = Images(PIXELS).digest(indices)
    assert digest == hashlib.sha256(PIXELS[indices]).hexdigest()
    assert Images(PIXELS).digest(indices[::-1]) != digest


def test_digest_depends_on_the_labels_of_the_images_chosen():
    indices, labels = np.arange(1, 5000), np.arange(5000) % 3
    digest = Images(PIXELS, labels).digest(indices)
    assert digest == Images(PIXELS, labels.astype("uint8")).digest(indices)
    assert digest != Images(PIXELS).digest(indices)
    labels[0] = 2  # which is not chosen
    assert digest == Images(PIXELS, labels).digest(indices)
    labels[1] = 2
    assert digest != Images(PIXELS, labels).digest(indices)


# Held-out images. The SHA-256 of these texts begin with ca, 3e, 2e, 18, 3f, 25.

LETTERS = "abcdef"


@pytest.mark.parametrize(
    "fraction, held_out",
    [
        (0.0, ""),
        (0.01, "d"),  # the smallest, if none is below
        (0x18 / 256, "d"),
        (0x19 / 256, "d"),
        (0x26 / 256, "df"),
        (0.5, "bcdef"),
        (0.999, "bcdef"),  # the largest stays, if all are below
    ],
)
def test_images_are_held_out_by_the_hash_of_what_identifies_them(fraction, held_out):
    training, held = split_indices(LETTERS, fraction)
    assert [LETTERS[k] for k in held] == list(held_out)
    assert [LETTERS[k] for k in training] == [c for c in LETTERS if c not in held_out]
    assert training.dtype.kind == held.dtype.kind == "i"


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.999])
def test_single_image_is_trained_on(fraction):
    training, held = split_indices(["a"], fraction)
    assert (list(training), list(held)) == ([0], [])


def test_added_images_move_no_other():
    ids = [f"photos/{k}.jpg" for k in range(2000)]
    before = {ids[k] for k in split_indices(ids, 0.1)[1]}
    assert len(before) == pytest.approx(200, abs=5 * 180**0.5)
    more = [f"new/{k}.jpg" for k in range(500)] + ids[::-1]
    after = {more[k] for k in split_indices(more, 0.1)[1]}
    assert after & set(ids) == before
    wider = {ids[k] for k in split_indices(ids, 0.2)[1]}
    assert before < wider


def test_names_that_are_no_utf_8_are_split_as_well():
    training, held = split_indices(["caf\udce9.png", "\ud800.png"], 0.5)
    assert sorted([*training, *held]) == [0, 1]


def test_protocol_tells_how_images_are_held_out():
    text = Path(__file__).parents[1].joinpath("docs/protocol.md").read_text("utf-8")
    scope = {}
    exec(re.search("```python\n(.*?)```", text, re.DOTALL)[1], scope)
    ids = [f"image_{number:05}.jpg" for number in range(1, 8190)]
    training, held_out = split_indices(ids, 0.05)
    assert [k for k, name in enumerate(ids) if scope["is_held_out"](name)] == [
        *held_out
    ]
    assert f"holds out {len(held_out)} photographs" in text
    assert f"leaves {len(training):,}" in text
    assert "{}, {}, {}, {} and {},".format(*held_out[:5] + 1) in text
