"""Image files of all kinds: decoded, cropped and resized, or refused."""

import errno
import importlib.util
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import limits
import numpy as np
import pytest
from PIL import Image, ImageColor

from ddpm_keras.data import image_files
from ddpm_keras.data.flowers import draw_flower
from ddpm_keras.data.image_files import (
    BrokenImageError,
    decode_image,
    fit_image,
    image_suffixes,
    read_image,
    read_pixels,
    to_channels,
)

NO_IMAGE = "not an image of a kind that is read here"

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


def decoded(folder, image, name="a.png", channels=3, background="white", **options):
    image.save(folder / name, **options)
    pixels = decode_image(str(folder / name), channels, background)
    assert pixels.dtype == np.uint8
    return pixels.astype(int)


def composited(pixels, alpha, background):
    """Pixels over a colour, by the definition; alpha has a last axis."""
    share = np.asarray(alpha)[..., None] / 255
    return share * pixels + (1 - share) * np.array(background)


@pytest.mark.parametrize("background", ["white", "#0080ff"])
def test_transparent_pixels_show_the_background(tmp_path, background):
    pixels, colour = draw_flower(0, 0, (12, 16)), ImageColor.getrgb(background)
    alpha = np.linspace(0, 255, 12 * 16).astype("uint8").reshape(12, 16)
    image = Image.fromarray(pixels)
    image.putalpha(Image.fromarray(alpha))
    wanted = composited(pixels, alpha, colour)
    found = decoded(tmp_path, image, background=background)
    np.testing.assert_allclose(found, wanted, atol=1)
    assert np.array_equal(found[-1, -1], pixels[-1, -1])  # opaque
    grey = decoded(tmp_path, image, channels=1, background=background)
    np.testing.assert_allclose(grey[..., 0], wanted @ (0.299, 0.587, 0.114), atol=2)

    of_grey = Image.fromarray(pixels[..., 0])
    of_grey.putalpha(Image.fromarray(alpha))
    assert of_grey.mode == "LA"
    found = decoded(tmp_path, of_grey, background=background)
    wanted = composited(pixels[..., :1] + np.zeros(3), alpha, colour)
    np.testing.assert_allclose(found, wanted, atol=1)


def test_disc_on_transparent_black_is_a_disc_on_white(tmp_path):
    y, x = np.indices((32, 32)) - 15.5
    inside = y**2 + x**2 < 100
    pixels = np.zeros((32, 32, 4), "uint8")
    pixels[inside] = (200, 30, 30, 255)
    wanted = np.where(inside[..., None], (200, 30, 30), 255)
    image = Image.fromarray(pixels)
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True})):
        np.testing.assert_array_equal(decoded(tmp_path, image, name, **options), wanted)
    # In a palette one colour is transparent, or each has its own alpha.
    palette = Image.fromarray(inside.astype("uint8")).convert("P")
    palette.putpalette([0, 0, 0, 200, 30, 30])
    for name, transparency in (("a.gif", 0), ("a.png", 0), ("b.png", b"\0\xff")):
        found = decoded(tmp_path, palette, name, transparency=transparency)
        np.testing.assert_array_equal(found, wanted)
    half = decoded(tmp_path, palette, transparency=bytes([0, 102]))
    wanted_half = composited(np.array([[200, 30, 30]]), [102], (255, 255, 255))
    np.testing.assert_allclose(half[16, 16], wanted_half[0], atol=1)
    # Or one colour of an image without alpha.
    plain = Image.fromarray(pixels[..., :3])
    found = decoded(tmp_path, plain, transparency=(0, 0, 0))
    np.testing.assert_array_equal(found, wanted)
    deep = Image.fromarray(np.where(inside, 257 * 90, 7).astype("uint16"))
    deep.save(tmp_path / "deep.png", transparency=7)
    found = decode_image(tmp_path / "deep.png", 1)[..., 0]
    np.testing.assert_array_equal(found, np.where(inside, 90, 255))


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


@pytest.mark.parametrize(
    "values, reason",
    [
        (np.float32([[0.0, 0.5]]), "floating-point pixels, of an unknown range"),
        (np.int32([[0, 65536]]), "pixels of more than 16 bits"),
        (np.int32([[0, -1]]), "pixels of more than 16 bits"),
    ],
    ids=str,
)
def test_numbers_of_an_unknown_range_are_refused(tmp_path, values, reason):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(BrokenImageError, match=reason):
        read_pixels(tmp_path / "a.tiff", 8, 8, 3)


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


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg"])
@pytest.mark.parametrize("rest", [bytes(20), b"II*\0", b"II*\0" + b"\xff" * 9])
def test_exif_that_cannot_be_read_hides_no_image(tmp_path, name, rest):
    image = Image.new("RGB", (8, 8), "white")
    pixels = decoded(tmp_path, image, name, exif=b"Exif\0\0" + rest)
    np.testing.assert_allclose(pixels, 255, atol=2)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_first_frame_of_an_animation_is_read(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    pixels = decoded(tmp_path, frames[0], name, **options)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 2
    np.testing.assert_allclose(pixels, np.full((8, 8, 3), (255, 0, 0)), atol=2)


@pytest.mark.parametrize("name", ["a.tiff", "a.jp2", "a.ppm", "a.avif"])
def test_other_kinds_that_pillow_reads_are_read(tmp_path, name):
    if not name.endswith(image_suffixes()):
        pytest.skip("this Pillow was built without it")
    pixels = draw_flower(0, 0, 24)
    options = {"quality": 100, "subsampling": "4:4:4"} if name == "a.avif" else {}
    found = decoded(tmp_path, Image.fromarray(pixels), name, **options)
    assert np.abs(found - pixels).mean() < (1 if options else 1e-9)


PLUGIN = """
from PIL import Image, PngImagePlugin

class Heif(PngImagePlugin.PngImageFile):
    format = "HEIF"

def register_heif_opener():
    Image.register_open("HEIF", Heif, lambda start: start.startswith(b"\\x89PNG"))
"""


@pytest.fixture
def heif_plugin(tmp_path, monkeypatch):
    """A stand-in for the plugin, which reads PNGs."""
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "pillow_heif.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    caches = image_suffixes, image_files._formats
    for cached in caches:
        cached.cache_clear()
    yield
    sys.modules.pop("pillow_heif", None)
    Image.OPEN.pop("HEIF", None)
    for cached in caches:
        cached.cache_clear()


@pytest.mark.skipif(
    importlib.util.find_spec("pillow_heif") is not None, reason="the real one is there"
)
def test_plugin_for_heic_is_used_where_it_is_installed(tmp_path, heif_plugin):
    assert ".heic" in image_suffixes()
    Image.fromarray(draw_flower(0, 0, 12)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.heic")
    assert "HEIF" in image_files._formats()
    found = decode_image(tmp_path / "a.heic", 3)
    np.testing.assert_array_equal(found, draw_flower(0, 0, 12))


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
    assert reason(path) == NO_IMAGE


@pytest.mark.parametrize("kind", ["eps", "tga"])
def test_kinds_beyond_these_are_refused(tmp_path, kind):
    # Pillow passes EPS to Ghostscript, which executes it.
    path = tmp_path / "a.jpg"
    Image.fromarray(draw_flower(0, 0, 12)).save(path, kind)
    assert reason(path) == NO_IMAGE


def test_missing_image_and_loop_of_links_are_refused(tmp_path):
    assert reason(tmp_path / "a.png") == "No such file or directory"
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    assert reason(tmp_path / "a.png") == "No such file or directory"
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert reason(tmp_path / "a.png") == os.strerror(errno.ELOOP)


def is_lasting(path):
    with pytest.raises(BrokenImageError) as error:
        decode_image(path, 3)
    return error.value.lasting


@pytest.mark.parametrize("size", [0, 20, 600])
def test_damaged_file_is_at_fault_itself(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), "uint8")
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).save(path)
    os.truncate(path, size)
    assert is_lasting(path)


def test_file_that_points_behind_any_end_is_at_fault_itself(tmp_path):
    # A TIFF of 64 bits, which has its directory there. The system refuses to seek.
    path = tmp_path / "a.tiff"
    path.write_bytes(b"II" + struct.pack("<HHHQ", 43, 8, 0, 2**62))
    assert is_lasting(path)


def test_link_to_nowhere_is_at_fault_itself_and_a_lost_file_is_not(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    assert is_lasting(tmp_path / "a.png")
    assert not is_lasting(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert is_lasting(tmp_path / "b.png")


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
def test_file_on_a_failing_disk_is_not_at_fault_itself(tmp_path):
    # A regular file that can be opened, but not read where it begins.
    (tmp_path / "a.png").symlink_to("/proc/self/mem")
    assert reason(tmp_path / "a.png") == os.strerror(errno.EIO)
    assert not is_lasting(tmp_path / "a.png")


def test_file_for_which_memory_is_short_is_not_at_fault_itself(tmp_path, monkeypatch):
    def fit(*args):
        raise MemoryError

    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(image_files, "_fit", fit)
    with pytest.raises(BrokenImageError, match="there is not enough memory") as error:
        read_pixels(tmp_path / "a.png", 8, 8, 3)
    assert not error.value.lasting


def test_giant_image_is_refused_from_its_header(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(60000, 60000, 2, [np.zeros(300)]))
    code = (
        "import sys; from ddpm_keras.data.image_files import decode_image\n"
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
    assert message == f"cannot read the image {path}: more than 40,000,000 pixels"
    assert int(peak) < limits.BYTES  # of the whole process


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = Path("a.png")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert reason(path) == "not a regular file"


# Large images.


def gif(width, height):
    """A GIF of 40 bytes that claims any size."""
    header = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return header + frame + b"\x02\x02\x4c\x01\x00;"


def test_small_file_that_claims_many_pixels_is_refused(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(13_000, 13_000))
    with limits.limits():
        assert reason(path) == "more than 40,000,000 pixels"


def test_threads_decode_only_so_many_pixels_at_once(tmp_path, monkeypatch):
    turns, now, most = image_files._Turns(100), [], []
    lock = threading.Lock()

    def decode(size):
        with turns.take(size):
            with lock:
                now.append(size)
                most.append(list(now))
            threading.Event().wait(0.005)
            with lock:
                now.remove(size)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(decode, [40, 40, 10, 250, 40, 30, 100, 1, 60] * 3))
    assert max(map(len, most)) > 1
    assert all(sum(sizes) <= 100 or len(sizes) == 1 for sizes in most)
    # This is what images take their turns by.
    taken = []
    monkeypatch.setattr(image_files._turns, "take", lambda size: taken.append(size))
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    with pytest.raises(BrokenImageError):  # which is no context
        decode_image(tmp_path / "a.png", 3)
    assert taken == [600]


@pytest.mark.parametrize("channels", [1, 3])
def test_large_jpeg_is_decoded_reduced_and_no_other(tmp_path, monkeypatch, channels):
    path = tmp_path / "a.jpg"
    Image.fromarray(draw_flower(0, 0, (300, 401))).save(path, quality=95)
    whole = read_pixels(path, 16, 16, channels)
    assert decode_image(path, channels).shape == (300, 401, channels)
    monkeypatch.setattr(image_files, "MAX_PIXELS", 300 * 401)
    np.testing.assert_array_equal(read_pixels(path, 16, 16, channels), whole)
    for pixels, shape in ((300 * 401 - 1, (150, 201)), (8_000, (75, 101))):
        monkeypatch.setattr(image_files, "MAX_PIXELS", pixels)
        assert decode_image(path, channels).shape == (*shape, channels)
        reduced = read_pixels(path, 16, 16, channels)
        difference = np.abs(reduced.astype(int) - whole)
        assert difference.mean() < 2.5  # of a far larger image, 0
    monkeypatch.setattr(image_files, "MAX_JPEG_PIXELS", 100_000)
    assert reason(path) == "more than 100,000 pixels"


LARGE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from ddpm_keras.data.image_files import read_pixels
with ThreadPoolExecutor(8) as threads:
    found = threads.map(lambda path: read_pixels(path, 64, 64, 3), 4 * sys.argv[1:])
    assert all(pixels.shape == (64, 64, 3) for pixels in found)
import limits; print(limits.peak_memory())
"""


@pytest.mark.slow
def test_largest_images_side_by_side_stay_below_a_gigabyte(tmp_path):
    Image.new("RGBA", (8000, 5000), (9, 9, 9, 9)).save(tmp_path / "a.png")
    Image.new("RGB", (12_000, 9_000), "red").save(tmp_path / "b.jpg")
    Image.new("RGB", (12_000, 9_000)).save(tmp_path / "c.jpg", progressive=True)
    paths = sorted(tmp_path.iterdir())
    run = subprocess.run(
        [sys.executable, "-c", LARGE, *paths],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert int(run.stdout) < 1e9
