"""Reads checkpoints in TensorFlow's format, without TensorFlow.

TensorFlow's own reader ends the whole process on many a damaged file; and this one
serves every backend.

A checkpoint is an index file and data files. The index is a sorted table, as LevelDB
writes them: blocks of key-value pairs, a block of pointers to these blocks, and a
footer with a pointer to that one. A key is the name of an array, and its value a
protocol buffer that tells type, shape, checksum and place in the data files.

Reference:
    - tensorflow/core/lib/io/format.cc, of blocks and footer
    - tensorflow/core/protobuf/tensor_bundle.proto, of the values
"""

import math
import struct
from functools import partial
from pathlib import Path

import google_crc32c
import numpy as np

from ddpm_keras.errors import InputError
from ddpm_keras.weights.stored import Stored

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)  # the end of the footer
FOOTER_BYTES = 48
# A network with its average and optimizer stays far below these. They bound the time
# that a hostile index takes.
MAX_INDEX_BYTES = 1_000_000
MAX_ENTRIES = 20_000
MAX_NAME_BYTES = 500
MAX_DIMENSIONS = 8
DTYPES = {1: "float32", 2: "float64", 3: "int32", 7: "string", 9: "int64"}


def read_checkpoint(prefix):
    """The arrays of a checkpoint.

    Args:
        prefix: Path of the index file without its `.index`.

    Returns:
        A dict from names to `Stored` arrays.

    Raises:
        InputError: When the index is not one, or is damaged.
    """
    path = Path(f"{prefix}.index")
    with path.open("rb") as file:
        index = file.read(MAX_INDEX_BYTES + 1)
    if not index[:MAX_INDEX_BYTES].endswith(MAGIC):
        raise InputError(
            f"{path}: not the index of a TensorFlow checkpoint; name the prefix of one"
        )
    try:
        entries = dict(_table(index))
        header = _message(entries.pop(b""))
        return {
            name.decode(): _stored(prefix, header, _message(entry))
            for name, entry in entries.items()
        }
    except (ValueError, LookupError, TypeError, struct.error) as error:
        raise InputError(f"{path}: damaged; use another copy") from error


def _stored(prefix, header, entry):
    """The array that a BundleEntryProto tells of, by a BundleHeaderProto."""
    number = _last(entry, 1)
    dtype = DTYPES.get(number, f"type {number} of TensorFlow")
    dims = _message(_last(entry, 2, b"")).get(2, [])
    if len(dims) > MAX_DIMENSIONS:
        raise ValueError("too many dimensions")
    shape = tuple(_last(_message(dim), 1) for dim in dims)
    shard, shards = _last(entry, 3), _last(header, 1)
    path = Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")
    offset, size, checksum = _last(entry, 4), _last(entry, 5), _last(entry, 6)
    if _last(header, 2) or 7 in entry:
        dtype = "big-endian or in slices"
    elif dtype == "float32" and size != 4 * math.prod(shape):
        raise ValueError("a size that is not the shape's")
    return Stored(shape, dtype, partial(_read, path, shape, offset, size, checksum))


def _read(path, shape, offset, size, checksum):
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; it must be beside the checkpoint's index"
        ) from None
    except (OSError, ValueError) as error:  # such as an offset of 2**63
        raise InputError(f"{path}: cannot be read; use another copy") from error
    if len(data) != size or masked_crc32c(data) != checksum:
        raise InputError(f"{path}: damaged; use another copy")
    return np.frombuffer(data, "<f4").reshape(shape)


def masked_crc32c(data):
    """The CRC-32C of bytes as TensorFlow writes it: rotated, with a constant added."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table(index):
    """The key-value pairs of a table."""
    # The footer points to a block about the table, unused here, then to the pointers.
    *_, offset, size = _varints(index[-FOOTER_BYTES:], 4)
    end = 0
    for _, pointer in _block(index, offset, size):
        offset, size = _varints(pointer, 2)
        if offset < end:
            raise ValueError("overlapping blocks")
        end = offset + size
        yield from _block(index, offset, size)


def _block(index, offset, size):
    """The key-value pairs of a block."""
    block, trailer = index[offset : offset + size], index[offset + size :][:5]
    compression, checksum = struct.unpack("<BI", trailer)
    if compression or masked_crc32c(block + trailer[:1]) != checksum:
        raise ValueError("a compressed block, which TensorFlow does not write")
    (num_restarts,) = struct.unpack("<I", block[-4:])
    position, end, key = 0, len(block) - 4 - 4 * num_restarts, b""
    for _ in range(MAX_ENTRIES):
        if position >= end:
            return
        # A key is told by what it shares with the one before, and the rest.
        (shared, added, length), position = _varints_from(block, position, 3)
        key = key[:shared] + block[position : position + added]
        if len(key) != shared + added or len(key) > MAX_NAME_BYTES:
            raise ValueError("a key without end")
        position += added + length
        yield key, block[position - length : position]
    raise ValueError("too many entries")


def _message(data):
    """The fields of a protocol buffer: a dict from numbers to lists of values."""
    fields, position = {}, 0
    while position < len(data):
        (tag,), position = _varints_from(data, position, 1)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            (value,), position = _varints_from(data, position, 1)
        elif kind == 5:
            (value,) = struct.unpack_from("<I", data, position)
            position += 4
        elif kind == 2:
            (length,), position = _varints_from(data, position, 1)
            value = data[position : position + length]
            position += length
        else:
            raise ValueError("a field that no checkpoint has")
        fields.setdefault(number, []).append(value)
    return fields


def _last(message, number, default=0):
    """The value of a field; the last one counts."""
    value = message.get(number, [default])[-1]
    if type(value) is not type(default):
        raise TypeError("text for a number, or a number for text")
    return value


def _varints(data, count):
    return _varints_from(data, 0, count)[0]


def _varints_from(data, position, count):
    """`count` integers in base 128, least digit first; and the position after them."""
    values = []
    for _ in range(count):
        value = 0
        for digit in range(10):  # 64 bits
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << 7 * digit
            if byte < 0x80:
                break
        values.append(value)
    return values, position
