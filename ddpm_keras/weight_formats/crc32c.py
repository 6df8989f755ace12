"""CRC-32C, the checksum in TensorFlow's files, with NumPy.

The standard library has another CRC-32 only, and a Python loop over the bytes would
take minutes for the published weights. Here the bytes are cut into pieces of equal
length, whose checksums advance together, four bytes at a time, and are then joined.

Reference:
    - [RFC 3720](https://www.rfc-editor.org/rfc/rfc3720), appendix B.4
"""

import functools

import numpy as np

POLYNOMIAL = np.uint32(0x82F63B78)  # its bits reversed: the lowest comes first
# These bytes lead from state zero to the start value, all ones.
FRONT = np.frombuffer(b"Td\x1fd", "uint8")


def crc32c(data):
    """The CRC-32C of `data`, bytes, as an int."""
    data = np.concatenate([FRONT, np.frombuffer(data, "uint8")])
    # About as many pieces as words in each; a power of two, for `_join`.
    length = 1 << (len(data) // 4).bit_length() // 2
    pieces = -(-len(data) // (4 * length))
    # State zero stays zero over the zeros that fill up the first piece.
    padded = np.zeros(pieces * length * 4, "uint8")
    padded[len(padded) - len(data) :] = data
    states = np.zeros(pieces, "uint32")
    for words in padded.view("<u4").reshape(pieces, length).T:
        states = _next(states ^ words)
    return int(~_join(states, length))


def masked_crc32c(data):
    """The checksum as TensorFlow writes it: rotated, with a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _next(states):
    """The states four zero bytes later."""
    low, high = _tables()
    return low[states & np.uint32(0xFFFF)] ^ high[states >> np.uint32(16)]


@functools.cache
def _tables():
    """`_next` of every lower and of every upper half of a state."""
    halves = np.arange(1 << 16, dtype="uint32")
    tables = []
    for states in (halves, halves << np.uint32(16)):
        for _ in range(32):
            states = states >> np.uint32(1) ^ POLYNOMIAL * (states & np.uint32(1))
        tables.append(states)
    return tables


def _join(states, length):
    """The state at the end, from that of each piece of `length` words."""
    # Entry k is what a piece of zeros makes of bit k; applied to itself, what two do.
    piece = _next(np.uint32(1) << np.arange(32, dtype="uint32"))
    for _ in range(length.bit_length() - 1):
        piece = _apply(piece, piece)
    while len(states) > 1:
        if len(states) % 2:
            states = np.concatenate([np.zeros(1, "uint32"), states])
        states = _apply(piece, states[::2]) ^ states[1::2]
        piece = _apply(piece, piece)
    return states[0]


def _apply(linear_map, states):
    bits = states[:, None] >> np.arange(32, dtype="uint32") & np.uint32(1)
    return np.bitwise_xor.reduce(bits * linear_map, axis=1)
