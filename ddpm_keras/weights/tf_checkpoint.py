"""A reader for TensorFlow checkpoints that may be damaged or hostile.

It needs no TensorFlow, whose own reader crashes on many damaged files.

A checkpoint is an index file and data files. The index is a sorted table in the format
of LevelDB: blocks of key-value pairs, a block of pointers to these, and a footer with a
pointer to that one. A key is the name of an array; its value is a protocol buffer with
type, shape, checksum and place in the data files.

Reference:
    - tensorflow/core/lib/io/format.cc for blocks and footer
    - tensorflow/core/protobuf/tensor_bundle.proto for the values
"""

import io
import math
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from ddpm_keras.errors import InputError
from ddpm_keras.weights.stored import Stored, damaged

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)  # the end of the footer
FOOTER_BYTES = 48
# A network with its average and optimizer stays far below these limits, which bound the
# time that a hostile index takes.
MAX_INDEX_BYTES = 1_000_000
MAX_ENTRIES = 20_000
MAX_NAME_BYTES = 500
MAX_DIMENSIONS = 8
DTYPES = {1: "float32", 2: "float64", 3: "int32", 7: "string", 9: "int64"}

Message = dict[int, list[Any]]  # values by field number


def read_checkpoint(prefix: str | Path) -> dict[str, Stored]:
    """Read which arrays a checkpoint holds.

    Args:
        prefix: Path of the index file without its `.index`.

    Raises:
        InputError: When the index is damaged, or some other file.
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
            name.decode(): _describe(prefix, header, _message(entry))
            for name, entry in entries.items()
        }
    except (ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
        raise damaged(path) from error


def _describe(prefix: str | Path, header: Message, entry: Message) -> Stored:
    """Return the array of a BundleEntryProto, given the BundleHeaderProto."""
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
        raise ValueError("size and shape do not agree")
    return Stored(shape, dtype, partial(_read, path, shape, offset, size, checksum))


def _read(
    path: Path, shape: tuple[int, ...], offset: int, size: int, checksum: int
) -> np.ndarray:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; it must be beside the checkpoint's index"
        ) from None
    except (OSError, ValueError) as error:  # such as an offset of 2**63
        raise damaged(path, "cannot be read") from error
    if len(data) != size or masked_crc32c(data) != checksum:
        raise damaged(path)
    return np.frombuffer(data, "<f4").reshape(shape)


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C as TensorFlow stores it: rotated, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the key-value pairs of a table."""
    # The footer points to a block about the table, unused here, then to the pointers.
    footer = io.BytesIO(index[-FOOTER_BYTES:])
    _, _, offset, size = (_number(footer) for _ in range(4))
    end = 0
    for _, pointer in _block(index, offset, size):
        stream = io.BytesIO(pointer)
        offset, size = _number(stream), _number(stream)
        if offset < end:
            raise ValueError("overlapping blocks")
        end = offset + size
        yield from _block(index, offset, size)


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the key-value pairs of a block."""
    block, trailer = index[offset : offset + size], index[offset + size :][:5]
    compression, checksum = struct.unpack("<BI", trailer)
    if compression or masked_crc32c(block + trailer[:1]) != checksum:
        raise ValueError("a compressed or damaged block")
    (num_restarts,) = struct.unpack("<I", block[-4:])
    end, stream, key = len(block) - 4 - 4 * num_restarts, io.BytesIO(block), b""
    for _ in range(MAX_ENTRIES):
        if stream.tell() >= end:
            return
        # A key is stored as the length it shares with the previous one, and the rest.
        shared, added, length = (_number(stream) for _ in range(3))
        key = key[:shared] + stream.read(added)
        if len(key) != shared + added or len(key) > MAX_NAME_BYTES:
            raise ValueError("a key that is cut short or too long")
        yield key, stream.read(length)
    raise ValueError("too many entries")


def _message(data: bytes) -> Message:
    """Parse a protocol buffer."""
    fields, stream = {}, io.BytesIO(data)
    while stream.tell() < len(data):
        tag = _number(stream)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value = _number(stream)
        elif kind == 5:
            (value,) = struct.unpack("<I", stream.read(4))
        elif kind == 2:
            value = stream.read(_number(stream))
        else:
            raise ValueError("an unexpected type of field")
        fields.setdefault(number, []).append(value)
    return fields


def _last(message: Message, number: int, default: Any = 0) -> Any:
    """Return the value of a field; of repeated ones the last, by the standard."""
    value = message.get(number, [default])[-1]
    if type(value) is not type(default):
        raise TypeError("text in place of a number, or a number in place of text")
    return value


def _number(stream: io.BytesIO) -> int:
    """Read a number in base 128, low digits first."""
    value = 0
    for digit in range(10):  # 64 bits
        byte = stream.read(1)[0]
        value |= (byte & 0x7F) << 7 * digit
        if byte < 0x80:
            break
    return value
