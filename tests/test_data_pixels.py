"""Conversion of pixels, grids, and image files of all kinds."""

import errno
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import limits
import numpy as np
import pytest
from PIL import Image

from ddpm_keras.data.flowers import draw_flower, draw_flowers
from ddpm_keras.data.pixels import (
    BrokenImageError,
    decode_image,
    fit_image,
    make_grid,
    read_image,
    save_png,
    to_channels,
    to_uint8,
)


def test_every_byte_survives_a_round_trip():
    pixels = np.arange(256, dtype="uint8").reshape(4, 8, 8)
    again = to_uint8(pixels.astype("float32") / 127.5 - 1)
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, pixels)


def test_values_are_rounded_not_truncated():
    steps = np.array([0.0, 0.4, 0.6, 99.4, 99.6, 254.4, 254.6, 255.0])
    nearest = [0, 0, 1, 99, 100, 254, 255, 255]
    np.testing.assert_array_equal(to_uint8(steps / 127.5 - 1), nearest)


def test_values_outside_the_range_are_clipped_and_do_not_wrap():
    values = [-np.inf, -100.0, -1.02, -1.0, 1.0, 1.02, 100.0, np.inf]
    np.testing.assert_array_equal(to_uint8(values), [0] * 4 + [255] * 4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_grid_has_each_image_at_its_place_on_white(channels, padding):
    images = draw_flowers(5, (4, 6), channels)
    grid = make_grid(images, num_cols=3, padding=padding)
    sides = (2 * 4 + 3 * padding, 3 * 6 + 4 * padding)
    assert grid.dtype == np.uint8
    assert grid.shape == (sides if channels == 1 else (*sides, 3))

    grid = grid.reshape(*sides, channels)
    ground = np.ones(sides, bool)
    for k, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        top, left = padding + row * (4 + padding), padding + column * (6 + padding)
        place = np.s_[top : top + 4, left : left + 6]
        np.testing.assert_array_equal(grid[place], images[k])
        ground[place] = False
    assert (grid[ground] == 255).all()


@pytest.mark.parametrize(
    "num_images, rows, columns",
    [(1, 1, 1), (2, 1, 2), (4, 2, 2), (5, 2, 3), (7, 3, 3), (16, 4, 4)],
)
def test_grid_is_as_square_as_possible(num_images, rows, columns):
    grid = make_grid(np.zeros((num_images, 4, 4, 3)), padding=0)
    assert grid.shape == (4 * rows, 4 * columns, 3)


def test_grid_of_floats_is_that_of_their_pixels():
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 3))
    np.testing.assert_array_equal(make_grid(images), make_grid(to_uint8(images)))


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_png_holds_the_same_pixels(tmp_path, channels, mode):
    pixels = draw_flower(0, 0, (12, 20), channels)
    pixels = pixels[..., 0] if channels == 1 else pixels
    path = tmp_path / "folder" / "a.png"
    save_png(path, pixels)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert list(path.parent.iterdir()) == [path]


def test_png_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.png"
    save_png(path, draw_flower(0, 0, 8))
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        save_png(path, np.zeros((8, 8, 7), "uint8"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Crop and resize.


def fitted(pixels, img_size=8, img_channels=3):
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    return fit_image(to_channels(pixels, img_channels), height, width)


@pytest.mark.parametrize(
    "sides, img_size, rows, columns",
    [
        # Height and width before and after; the rows and columns cut out.
        ((16, 16), 16, (0, 16), (0, 16)),
        ((64, 96), 16, (0, 64), (16, 80)),
        ((96, 64), 16, (16, 80), (0, 64)),
        ((37, 53), 10, (0, 37), (8, 45)),
        ((40, 60), [10, 30], (10, 30), (0, 60)),
        ((40, 60), [30, 10], (0, 40), (23, 36)),
        ((7, 5), 16, (1, 6), (0, 5)),
        ((8, 8), [8, 16], (2, 6), (0, 8)),
    ],
)
def test_centre_is_cut_out_and_resized_as_by_pillow(sides, img_size, rows, columns):
    # Pillow's bilinear filter widens with the factor, which is the antialiasing.
    pixels = draw_flower(0, 1, sides)
    image = fitted(pixels, img_size=img_size).astype(int)
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    assert image.shape == (height, width, 3)
    centre = Image.fromarray(pixels[slice(*rows), slice(*columns)])
    wanted = np.asarray(centre.resize((width, height), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(image, wanted, atol=1)
    assert abs((image - wanted).mean()) < 0.3  # rounded; cut off it would be -0.5


@pytest.mark.parametrize(
    "sides, img_size",
    [((500, 500), 64), ((90, 61), 13), ((20, 20), 48), ((40, 60), [24, 7])],
)
def test_resized_image_is_that_of_tensorflow(sides, img_size):
    tf = pytest.importorskip("tensorflow")
    pixels = np.random.default_rng(0).integers(0, 256, (*sides, 3), dtype="uint8")
    image = fitted(pixels, img_size)
    height, width = image.shape[:2]
    crop = min(sides[0], sides[1] * height // width)
    crop = crop, min(sides[1], sides[0] * width // height)
    top, left = (np.subtract(sides, crop) // 2).tolist()
    centre = pixels[top : top + crop[0], left : left + crop[1]]
    wanted = tf.image.resize(centre, (height, width), antialias=True).numpy()
    # Half a level is the rounding; the two resizes differ by 0.0005 at most.
    np.testing.assert_allclose(image, wanted, atol=0.501)


def test_resized_image_is_the_triangle_filters():
    # From numpy alone: the weights fall linearly to 0 at `factor` from the centre.
    pixels = draw_flower(0, 2, 48)
    factor = 48 / 12
    centres = (np.arange(12) + 0.5) * factor
    weights = 1 - np.abs(np.arange(48) + 0.5 - centres[:, None]) / factor
    weights = np.clip(weights, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    wanted = np.einsum("yr,xc,rck->yxk", weights, weights, pixels)
    image = fitted(pixels, img_size=12)
    np.testing.assert_allclose(image, wanted, atol=0.51)


def test_fine_pattern_becomes_grey_without_aliasing():
    # Every third pixel of this checkerboard is a checkerboard again.
    rows, columns = np.indices((48, 48))
    pixels = np.where((rows + columns) % 2, 255, 0).astype("uint8")
    assert set(pixels[1::3, 1::3].flat) == {0, 255}
    image = fitted(pixels, img_size=16)
    assert 120 < image.min() and image.max() < 136


def test_nothing_outside_the_crop_bleeds_in():
    pixels = np.full((30, 50, 3), (0, 255, 0), "uint8")
    pixels[:, 10:40] = (200, 30, 90)
    image = fitted(pixels, img_size=7)
    np.testing.assert_array_equal(image, np.full((7, 7, 3), (200, 30, 90)))


def test_very_long_images_are_cropped_too():
    for sides in ((1, 500), (500, 1), (1, 1)):
        pixels = np.full((*sides, 3), 77, "uint8")
        for img_size in (4, [2, 9], [9, 2]):
            assert (fitted(pixels, img_size=img_size) == 77).all()


def test_colour_and_grey_are_converted_into_each_other():
    colour, grey = draw_flower(0, 0, 16), draw_flower(0, 0, 16, 1)
    one = fitted(colour, img_size=16, img_channels=1)
    assert one.shape == (16, 16, 1)
    np.testing.assert_allclose(one.astype(int), grey, atol=2)
    three = fitted(grey[..., 0], img_size=16)
    np.testing.assert_array_equal(three, np.repeat(grey, 3, axis=-1))


# Image files.


def decoded(folder, image, name="a.png", channels=3, **options):
    image.save(folder / name, **options)
    pixels = decode_image(str(folder / name), channels)
    assert pixels.dtype == np.uint8
    return pixels.astype(int)


def test_transparency_is_dropped(tmp_path):
    pixels = draw_flower(0, 0, 12)
    for alpha in (0, 128, 255):
        image = Image.fromarray(pixels)
        image.putalpha(alpha)
        np.testing.assert_array_equal(decoded(tmp_path, image), pixels)


def test_palette_becomes_colours(tmp_path):
    image = Image.fromarray(draw_flower(0, 0, 12)).quantize(8)
    assert image.mode == "P"
    wanted = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decoded(tmp_path, image), wanted)
    assert len(np.unique(wanted.reshape(-1, 3), axis=0)) > 4


@pytest.mark.parametrize(
    "ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255), (51, 204, 0, 102)]
)
def test_cmyk_becomes_rgb(tmp_path, ink):
    # Each ink absorbs its share of the light, and black dims what is left.
    light = 1 - np.array(ink) / 255
    wanted = 255 * light[:3] * light[3]
    image = Image.new("CMYK", (16, 16), ink)
    pixels = decoded(tmp_path, image, "a.jpg", quality=100)
    np.testing.assert_allclose(pixels, np.full((16, 16, 3), wanted), atol=2)
    grey = decoded(tmp_path, image, "a.jpg", channels=1, quality=100)
    luminance = wanted @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(grey, np.full((16, 16, 1), luminance), atol=2)


def png(width, height, colour_type, rows):
    """Write a 16-bit PNG by the standard: colour type 0 is grey, 2 is colour."""

    def chunk(name, data):
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    data = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize("colour_type, channels", [(0, 1), (0, 3), (2, 3)])
def test_16_bit_png_keeps_its_brightness(tmp_path, colour_type, channels):
    values = np.random.default_rng(0).integers(0, 2**16, (9, 7, 3))
    values = values[..., : 3 if colour_type else 1]
    values[0, :2] = [[0], [65535]]
    (tmp_path / "a.png").write_bytes(png(7, 9, colour_type, values))
    pixels = decode_image(tmp_path / "a.png", channels)
    # Within one of the exact value: Pillow cuts 16-bit colours to their high byte.
    np.testing.assert_allclose(pixels, values / 257 + np.zeros(channels), atol=1)
    np.testing.assert_array_equal(pixels[0, :2], [[0] * channels, [255] * channels])


def test_16_bits_are_rounded_to_the_nearest_8(tmp_path):
    values = np.arange(0, 65536, 251).reshape(2, -1)
    image = Image.fromarray(values.astype("uint16"))
    assert image.mode.startswith("I")
    pixels = decoded(tmp_path, image, channels=1)[..., 0]
    np.testing.assert_array_equal(pixels, np.rint(values / 257))


def test_black_and_white_is_0_and_255(tmp_path):
    image = Image.fromarray(draw_flower(0, 0, 12, 1)[..., 0] > 99)
    assert image.mode == "1"
    wanted = np.where(np.asarray(image)[..., None], 255, 0)
    np.testing.assert_array_equal(decoded(tmp_path, image, channels=1), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path, orientation):
    upright = draw_flower(0, 3, (16, 24))
    # How a camera stores the upright image, by the EXIF standard.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    pixels = decoded(tmp_path, image, "a.png", exif=exif)
    np.testing.assert_array_equal(pixels, upright)
    pixels = decoded(tmp_path, image, "a.jpg", exif=exif, quality=100, subsampling=0)
    np.testing.assert_allclose(pixels, upright, atol=6)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_first_frame_of_an_animation_is_read(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    pixels = decoded(tmp_path, frames[0], name, **options)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 2
    np.testing.assert_allclose(pixels, np.full((8, 8, 3), (255, 0, 0)), atol=2)


def test_kind_of_image_is_recognised_by_content(tmp_path):
    Image.fromarray(draw_flower(0, 0, 12)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    pixels = decode_image(tmp_path / "a.jpg", 3)
    np.testing.assert_array_equal(pixels, draw_flower(0, 0, 12))


def test_image_read_for_a_network_is_fitted_to_it(tmp_path):
    pixels = draw_flower(0, 0, (12, 20))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", 6, 6, 3)
    assert (image.dtype, image.shape) == (np.float32, (6, 6, 3))
    np.testing.assert_allclose(image, fitted(pixels, 6) / 127.5 - 1, atol=1e-6)


# Broken image files.


def reason(path):
    """Return why a file cannot be read; the whole message also names the file."""
    with pytest.raises(BrokenImageError) as error:
        decode_image(path, 3)
    assert str(error.value) == f"cannot read the image {path}: {error.value.reason}"
    assert "\n" not in str(error.value)
    return error.value.reason


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.webp"])
def test_image_cut_short_is_refused_unless_no_pixel_is_missing(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(draw_flower(0, 0, 40)).save(path)
    whole, pixels = path.read_bytes(), decode_image(path, 3)
    for length in np.linspace(0, len(whole) - 1, 100, dtype=int):
        path.write_bytes(whole[:length])
        try:
            again = decode_image(path, 3)
        except BrokenImageError:
            continue
        # Only checksums and end markers follow the last pixel.
        assert length > len(whole) - 32
        np.testing.assert_array_equal(again, pixels)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><title>404</title>"])
def test_file_that_is_not_an_image_is_refused(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert reason(path) == "not a JPEG, PNG, GIF, BMP or WebP image"


@pytest.mark.parametrize("kind", ["eps", "tiff"])
def test_other_kinds_of_image_are_refused(tmp_path, kind):
    # Pillow passes EPS to Ghostscript, which executes it.
    path = tmp_path / "a.jpg"
    Image.fromarray(draw_flower(0, 0, 12)).save(path, kind)
    assert reason(path) == "not a JPEG, PNG, GIF, BMP or WebP image"


def test_missing_image_and_loop_of_links_are_refused(tmp_path):
    assert reason(tmp_path / "a.png") == "No such file or directory"
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    assert reason(tmp_path / "a.png") == "No such file or directory"
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert reason(tmp_path / "a.png") == os.strerror(errno.ELOOP)


def test_giant_image_is_refused_from_its_header(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(60000, 60000, 2, [np.zeros(300)]))
    code = (
        "import sys; from ddpm_keras.data.pixels import decode_image\n"
        "try: decode_image(sys.argv[1], 3)\n"
        "except ValueError as error: print(error)\n"
        "import limits; print(limits.peak_memory())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    message, peak = run.stdout.splitlines()
    assert message == f"cannot read the image {path}: more than 178,956,970 pixels"
    assert int(peak) < limits.BYTES  # of the whole process
