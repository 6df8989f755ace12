"""Hostile checkpoints in TensorFlow's format.

Their checksums are right, except those of the data. Each function takes `(path, good)`,
the prefix to write to and a folder with good files, and returns what the error must
say.
"""

import os
import shutil
import struct
from pathlib import Path

from ddpm_keras.weights.tf_checkpoint import MAGIC, _table, masked_crc32c

DATA = ".data-00000-of-00001"
DAMAGED = ".index: damaged"
STEM = b"layer_with_weights-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"  # (3, 3, 3, 16)


def checkpoint(path, good, entry):
    """Write the good checkpoint with another entry for the stem's kernel."""
    shutil.copy(good / f"checkpoint{DATA}", f"{path}{DATA}")
    pairs = dict(_table((good / "checkpoint.index").read_bytes()))
    write_table(path, [block([*(pairs | {STEM: entry}).items()])])


def changed(path, good, **changes):
    fields = dict(dtype=1, shape=[3, 3, 3, 16], shard=0, offset=0, size=1728, crc=0)
    checkpoint(path, good, entry(**fields | changes))


def number(value):
    """Encode a number in base 128, low digits first, as protocol buffers do."""
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def text(field, value):
    return number(field << 3 | 2) + number(len(value)) + value


def entry(dtype, shape, shard, offset, size, crc):
    """Encode a BundleEntryProto."""
    dims = b"".join(text(2, b"\x08" + number(n)) for n in shape)
    numbers = ((1, dtype), (3, shard), (4, offset), (5, size))
    return (
        b"".join(number(field << 3) + number(value) for field, value in numbers)
        + text(2, dims)
        + struct.pack("<BI", 6 << 3 | 5, crc)
    )


def block(pairs):
    content = b"".join(
        number(0) + number(len(key)) + number(len(value)) + key + value
        for key, value in sorted(pairs)
    )
    return content + struct.pack("<II", 0, 1)


def write_table(path, blocks, compression=0, repeat=1):
    """Write blocks, the block of pointers to them, and the footer."""
    table, pointers = b"", []

    def add(content):
        nonlocal table
        pointers.append(number(len(table)) + number(len(content)))
        content += bytes([compression])
        table += content + struct.pack("<I", masked_crc32c(content))

    for content in blocks:
        add(content)
    add(block([(b"%06d" % i, p) for i, p in enumerate(pointers * repeat)]))
    footer = number(0) + number(0) + pointers[-1]
    Path(f"{path}.index").write_bytes(table + footer.ljust(40, b"\0") + MAGIC)


def shape_bomb(path, good):
    changed(path, good, shape=[2**40], size=2**42)
    return (
        "weights of another network, 1 array differs: "
        "stem/kernel is (1099511627776,), not (3, 3, 3, 16)"
    )


def size_bomb(path, good):
    changed(path, good, size=2**62)
    return DAMAGED


def of_many_dimensions(path, good):
    changed(path, good, shape=[2**63] * 50_000)
    return DAMAGED


def offset_beyond_the_end(path, good):
    changed(path, good, offset=2**63)
    return f"{DATA}: cannot be read"


def with_other_data(path, good):
    changed(path, good, offset=4)
    return f"{DATA}: damaged"


def with_data_elsewhere(path, good):
    changed(path, good, shard=7)
    return ".data-00007-of-00001: no such file"


def of_texts(path, good):
    changed(path, good, dtype=7)
    return "stem/kernel is string, not float32"


def of_variants(path, good):
    changed(path, good, dtype=21)
    return "stem/kernel is type 21 of TensorFlow, not float32"


def with_text_for_a_number(path, good):
    # Multiplying the sizes would repeat the text 2**40 times.
    dims = text(2, text(1, b"x" * 1000)) + text(2, b"\x08" + number(2**40))
    checkpoint(path, good, b"\x08\x01" + text(2, dims))
    return DAMAGED


def compressed(path, good):
    write_table(path, [b"\xff\xff\xff\xff\x0f" + bytes(20)], compression=1)
    return DAMAGED


def key_bomb(path, good):
    # Each key is one byte longer than the previous one.
    content = b"".join(number(i) + number(1) + number(0) + b"x" for i in range(19_000))
    write_table(path, [content + struct.pack("<II", 0, 1)])
    return DAMAGED


def block_bomb(path, good):
    write_table(path, [block([])], repeat=15_000)
    return DAMAGED


def flood(path, good):
    pairs = [(b"%06d" % i, b"") for i in range(60_000)]
    write_table(path, [block(pairs)])
    return DAMAGED


def too_large(path, good):
    with open(f"{path}.index", "wb") as file:
        file.truncate(2**33)
        file.seek(0, os.SEEK_END)
        file.write(MAGIC)
    return ".index: not the index of a TensorFlow checkpoint"
