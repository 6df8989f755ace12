"""Randomly damaged weights are refused in one line, or load correctly."""

import contextlib
import random
import shutil
from collections import Counter

import numpy as np
import pytest
from good_files import CONFIG, write_good_files
from hostile_checkpoints import DATA, block, write_table
from limits import limits

from ddpm_keras.errors import InputError
from ddpm_keras.networks.unet import build_unet
from ddpm_keras.weights import fingerprint, load_weights, read_config
from ddpm_keras.weights.tf_checkpoint import _table

FORMATS = [  # weighted, since a case of HDF5 takes longest
    *["safetensors"] * 3,
    *["checkpoint index"] * 2,
    *["signed checkpoint index"] * 4,
    "checkpoint data",
    "keras2.h5",
    "keras3.weights.h5",
]


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory, randomise):
    """A function that tries numbered cases and counts how they ended."""
    good = write_good_files(tmp_path_factory.mktemp("good"), randomise)
    network = build_unet(**CONFIG.network_arguments())

    def run(numbers, folder):
        ends = Counter()
        for number in numbers:
            load_weights(network, good / "ours.safetensors")
            before = fingerprint(network)
            chance = random.Random(number)
            path = folder / "weights"
            write_damaged(FORMATS[number % len(FORMATS)], path, good, chance)
            try:
                with limits():
                    try_read_config(path)
                    load_weights(network, path)
                ends["loaded"] += 1
            except InputError as error:
                assert len(str(error).splitlines()) == 1, number
                ends["refused"] += 1
            except BaseException:
                print(f"case {number}")  # to reproduce it
                raise
            if fingerprint(network) != before:
                assert all(np.isfinite(w).all() for w in network.weights), number
        return ends

    return run


def try_read_config(path):
    with contextlib.suppress(InputError):
        read_config(path)


def write_damaged(name, path, good, chance):
    for old in path.parent.iterdir():
        old.unlink()
    if "checkpoint" not in name:
        name = name.replace("safetensors", "ours.safetensors")
        data = (good / name).read_bytes()
        # The header of safetensors comes first; HDF5 has its own all over the file.
        important = 20_000 if "ours" in name else len(data)
        path.write_bytes(damaged(data, chance, important))
        return
    index = path.with_name("weights.index")
    data = path.with_name(f"weights{DATA}")
    shutil.copy(good / "checkpoint.index", index)
    shutil.copy(good / f"checkpoint{DATA}", data)
    if name == "checkpoint data":
        data.write_bytes(damaged(data.read_bytes(), chance))
    elif name == "checkpoint index":
        index.write_bytes(damaged(index.read_bytes(), chance))
    else:  # damage that no checksum detects
        pairs = list(_table(index.read_bytes()))
        for _ in range(chance.choice([1, 1, 1, 5])):
            place = chance.randrange(len(pairs))
            key, value = pairs[place]
            if chance.random() < 0.1:
                key = damaged(key, chance)
            else:
                value = damaged(value, chance)
            pairs[place] = key, value
        content = block(pairs)
        if chance.random() < 0.3:
            content = damaged(content, chance)
        write_table(path, [content])


def damaged(data, chance, important=None):
    """Return a copy of `data` with some bytes changed, inserted or cut off."""
    data = bytearray(data)
    end = min(important or len(data), len(data)) or 1
    for _ in range(chance.choice([1, 1, 2, 8])):
        place = chance.randrange(end)
        size = chance.choice([1, 2, 4, 8])
        kind = chance.randrange(7)
        if kind == 0:
            data[place : place + 1] = [chance.randrange(256)]
        elif kind == 1 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            data[place : place + size] = chance.choice([b"\xff", b"\0", b"9"]) * size
        elif kind == 3:
            data[place : place + size] = chance.randbytes(size)
        elif kind == 4:
            other, length = chance.randrange(end), chance.randrange(1, 200)
            data[place : place + length] = data[other : other + length]
        elif kind == 5:
            data[place:place] = chance.randbytes(size)
        elif chance.random() < 0.3:
            del data[chance.randrange(len(data) + 1) :]
    return bytes(data)


def test_fuzzed_weights(fuzz, tmp_path):
    ends = fuzz(range(50), tmp_path)
    assert sum(ends.values()) == 50
    assert ends["refused"] > 16


@pytest.mark.slow
@pytest.mark.parametrize("thousand", range(10))
def test_fuzzed_weights_at_length(fuzz, tmp_path, thousand):
    ends = fuzz(range(1000 * thousand, 1000 * (thousand + 1)), tmp_path)
    assert sum(ends.values()) == 1000
