"""CRC-32C against published values and against the definition, bit by bit."""

import numpy as np
import pytest

from ddpm_keras.weight_formats.crc32c import crc32c, masked_crc32c


def by_definition(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    "data, wanted",
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # this one and the next: RFC 3720
        (b"\xff" * 32, 0x62A8AB43),
    ],
)
def test_published_values(data, wanted):
    assert crc32c(data) == wanted


@pytest.mark.parametrize("length", [*range(1, 40), 63, 64, 65, 1000, 4096, 9999])
def test_any_length(length):
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == by_definition(data)


def test_mask():
    # Rotated right by 15 bits, plus a constant, modulo 2**32.
    assert masked_crc32c(b"") == 0xA282EAD8
    assert masked_crc32c(b"123456789") == (0x2507C60D + 0xA282EAD8) & 0xFFFFFFFF
