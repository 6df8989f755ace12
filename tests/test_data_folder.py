"""Folders of images, with and without broken ones."""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from PIL import Image
from refusal import refusal

from ddpm_keras.config import Config
from ddpm_keras.data import check_data_set, load_images
from ddpm_keras.data import folder as folder_module
from ddpm_keras.data.folder_files import find_files
from ddpm_keras.data.image_files import (
    BrokenImageError,
    decode_image,
    image_suffixes,
)


def folder_config(folder, **keys):
    """A configuration for 8x8 images, whose network takes any."""
    network = {"img_size": 8, "channel_multiplier": [1], "has_attention": [False]}
    return Config(dataset_name="folder", data_dir=str(folder), **network, **keys)


# A folder of images.

NAMES = ["a.png", "b.bmp", "b/flower.JPG", "c/d/rose ü é.webp", "c/e.jpeg", "d.Png"]


def fill(folder, names, size=8):
    """Write images; image k has the grey level 40 * k, which identifies it."""
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (40 * k,) * 3).save(folder / name)


def test_subfolders_are_read_in_the_order_of_paths(tmp_path):
    fill(tmp_path, NAMES)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "c" / "png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    images = load_images(folder_config(tmp_path)).pixels
    assert (images.dtype, images.shape) == (np.uint8, (6, 8, 8, 3))
    greys = np.rint(images.mean(axis=(1, 2, 3)) / 40)
    np.testing.assert_array_equal(greys, [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_images_are_identified_by_their_paths_in_the_folder(tmp_path, end):
    fill(tmp_path, NAMES)
    images = load_images(folder_config(f"{tmp_path}{end}"))
    assert list(images.ids) == NAMES
    assert (images.labels, images.names) == (None, ())


def test_links_to_folders_are_followed_once(tmp_path):
    data = tmp_path / "data"
    fill(data, NAMES)
    fill(tmp_path, ["elsewhere/deeper/x.png", "elsewhere/y.png"])
    (data / "a").symlink_to(data / "c", target_is_directory=True)  # found as c
    (data / "c" / "loop").symlink_to(data, target_is_directory=True)
    (data / "second").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (data / "first").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path, target_is_directory=True)
    images = load_images(folder_config(data))
    assert list(images.ids) == sorted([*NAMES, "first/deeper/x.png", "first/y.png"])


def test_files_that_are_no_images_are_named(tmp_path, capsys):
    fill(tmp_path, NAMES)
    check_data_set(folder_config(tmp_path, batch_size=6))
    assert capsys.readouterr().err == ""
    for name in ("b/a.svg", "dataset.json", "notes.txt", ".hidden.txt"):
        (tmp_path / name).touch()
    load_images(folder_config(tmp_path))
    said = (
        f"data_dir: 2 files in {tmp_path} are no images of a kind that is read here "
        "and are left out: b/a.svg, notes.txt"
    )
    assert capsys.readouterr().err == f"{said}\n"
    for k in range(30):
        (tmp_path / f"{k:02}.mov").touch()
    load_images(folder_config(tmp_path))
    assert ", 19.mov and 12 more\n" in capsys.readouterr().err


@pytest.mark.skipif(
    ".heic" in image_suffixes(), reason="the plugin that reads them is installed"
)
def test_plugin_that_is_missing_is_named(tmp_path, capsys):
    fill(tmp_path, ["a.png"])
    (tmp_path / "b.HEIC").touch()
    load_images(folder_config(tmp_path))
    end = "left out: b.HEIC; to read HEIC, run pip install pillow-heif\n"
    assert capsys.readouterr().err.endswith(end)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names there")
def test_pipe_among_the_images_is_named_or_left_out(tmp_path, capsys):
    fill(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "b.png")
    message = refusal(load_images, folder_config(tmp_path))
    assert "cannot be read: b.png (not a regular file); remove" in message
    assert len(load_images(folder_config(tmp_path, skip_bad=True))) == 1


def test_background_of_transparent_images_is_that_of_the_configuration(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    for keys, grey in (({}, 255), ({"background": "#202020"}, 32)):
        pixels = load_images(folder_config(tmp_path, **keys)).pixels
        assert (pixels == grey).all()


def test_link_to_an_image_is_an_image(tmp_path):
    fill(tmp_path, ["elsewhere/a.png"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    assert len(load_images(folder_config(tmp_path / "data"))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_name_that_is_not_utf_8_is_a_name(tmp_path):
    fill(tmp_path, ["a.png"])
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    assert len(load_images(folder_config(tmp_path))) == 1


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_missing_folder_is_reported(tmp_path, kind):
    folder = tmp_path / "data"
    if kind == "file":
        folder.touch()
    assert refusal(load_images, folder_config(folder)) == (
        f"data_dir: 0 images found in {folder} (looked for "
        f"{', '.join(image_suffixes())}): it is not a folder; name one that holds some"
    )


def test_folder_without_images_is_reported(tmp_path):
    (tmp_path / "a.txt").touch()
    message = refusal(load_images, folder_config(tmp_path))
    assert message.startswith(f"data_dir: 0 images found in {tmp_path} ")
    assert message.endswith("; name a folder that holds some")


def test_hidden_files_and_folders_are_skipped(tmp_path):
    # File managers leave them: some hold images, and some only look like it.
    fill(tmp_path, ["a.png", ".thumbnails/a.png"])
    (tmp_path / "._a.jpg").write_text("no image")
    assert len(load_images(folder_config(tmp_path))) == 1
    # Except when the folder itself is hidden.
    assert len(load_images(folder_config(tmp_path / ".thumbnails"))) == 1


def test_subfolder_that_cannot_be_listed_is_reported(tmp_path, monkeypatch):
    fill(tmp_path, ["a.png", "locked/b.png"])
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert refusal(load_images, folder_config(tmp_path)) == (
        f"data_dir: cannot list {tmp_path / 'locked'} (Permission denied); check its "
        "permissions, or name another folder"
    )


def test_folder_needs_no_tensorflow(tmp_path):
    fill(tmp_path, NAMES)
    code = (
        "import sys; sys.modules.update(tensorflow=None, keras=None)\n"
        "from ddpm_keras import Config, load_images\n"
        "from ddpm_keras.data import check_data_set\n"
        "config = Config(dataset_name='folder', data_dir=sys.argv[1], batch_size=6)\n"
        "check_data_set(config)\n"
        "assert load_images(config).pixels.shape == (6, 64, 64, 3)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


# Classes.


def labelled(folder, **keys):
    return load_images(folder_config(folder, class_labels=True, **keys))


def test_first_level_subfolders_are_the_classes(tmp_path):
    names = ["b/1.png", "a b/deep/er/1.png", "b/z.png", "Z/1.png", "a b/2.png"]
    fill(tmp_path, names)
    (tmp_path / "no image").mkdir()
    images = labelled(tmp_path)
    assert images.names == ("Z", "a b", "b")
    assert list(images.ids) == sorted(names)
    assert [images.names[label] for label in images.labels] == [
        image.partition("/")[0] for image in images.ids
    ]


def test_class_whose_images_are_all_skipped_is_dropped(tmp_path, capsys):
    fill(tmp_path, ["b/1.png", "c/1.png", "b/3.png"])
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = labelled(tmp_path, skip_bad=True)
    assert images.names == ("b", "c")
    assert list(images.labels) == [0, 0, 1]
    assert list(images.ids) == ["b/1.png", "b/3.png", "c/1.png"]
    assert len(images.skipped) == 2


def test_dataset_json_wins_over_subfolders(tmp_path):
    fill(tmp_path, ["00000/img1.png", "00000/img2.png", "00001/img3.png"])
    entries = [["00001/img3.png", 10], ["00000/img1.png", 10], ["gone.png", 3]]
    entries.append(["00000/img2.png", 9])
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": entries}))
    images = labelled(tmp_path)
    assert images.names == ("9", "10")
    assert list(images.labels) == [1, 0, 1]
    assert load_images(folder_config(tmp_path)).labels is None


# Images that cannot be read.

NO_IMAGE = "not an image of a kind that is read here"
BAD = [
    "cut.jpg",
    "empty.png",
    "half.png",
    "loop.jpg",
    "nowhere.png",
    "page.jpg",
    "two\nlines.png",
]


@pytest.fixture
def mixed(tmp_path):
    """A folder with the broken images `BAD`, and eight good ones, all red."""
    folder = tmp_path / "mixed"
    (folder / "deeper").mkdir(parents=True)
    red = Image.new("RGB", (40, 30), (255, 0, 0))
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype="uint8")
    for name in ("cut.jpg", "half.png"):
        Image.fromarray(noise).save(folder / name)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "page.jpg").write_text("<!DOCTYPE html><title>Not found</title>")
    (folder / "two\nlines.png").touch()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "nowhere.png").symlink_to("no such file")
    (folder / "deeper" / "loop").symlink_to(folder, target_is_directory=True)
    blue = Image.new("RGB", (40, 30), (0, 0, 255))
    red.save(folder / "anime.gif", save_all=True, append_images=[blue])
    Image.fromarray(np.full((9, 9), 19595, "uint16")).save(folder / "deep.png")
    red.save(folder / "deeper" / "ü é 花.jpg", quality=100)
    Image.new("RGB", (1, 1), (255, 0, 0)).save(folder / "dot.png")
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(folder / "ink.jpg", quality=100)
    red.save(folder / "still.gif")
    Image.new("RGBA", (40, 30), (255, 0, 0, 255)).save(folder / "opaque.png")
    red.save(folder / "z.JPEG", quality=100)
    return folder


def named(folder):
    """Return the name of each of `BAD`, with the reason why it cannot be read."""
    lines = []
    for name in BAD:
        with pytest.raises(BrokenImageError) as error:
            decode_image(folder / name, 3)
        shown = repr(name) if "\n" in name else name
        lines.append(f"{shown} ({error.value.reason})")
    return lines


def test_every_image_that_cannot_be_read_is_named(mixed):
    assert refusal(load_images, folder_config(mixed)) == (
        f"data_dir: 7 of 15 images in {mixed} cannot be read: "
        f"{', '.join(named(mixed))}; remove or replace each, or train on the rest "
        "with --skip_bad true"
    )


def test_bad_images_are_skipped_and_the_rest_loaded(mixed, capsys):
    config = folder_config(mixed, skip_bad=True, img_channels=1)
    loaded = load_images(config)
    images, skipped = loaded.pixels, loaded.skipped
    assert list(skipped) == named(mixed)
    assert capsys.readouterr() == (
        "",
        f"data_dir: 7 of 15 images in {mixed} cannot be read and are left out: "
        f"{', '.join(skipped)}\n",
    )
    # The luminance of red is 0.299 * 255.
    assert images.shape == (8, 8, 8, 1)
    np.testing.assert_allclose(images.astype(int), 76, atol=2)


def test_skipping_changes_nothing_in_a_good_folder(tmp_path, capsys):
    fill(tmp_path, NAMES)
    images = load_images(folder_config(tmp_path))
    left = load_images(folder_config(tmp_path, skip_bad=True))
    np.testing.assert_array_equal(left.pixels, images.pixels)
    assert (left.skipped, capsys.readouterr().err) == ((), "")


def test_skipped_images_leave_the_others_in_their_order(tmp_path):
    fill(tmp_path, ["a.png", "b.png", "c.png", "d.png", "e.png"])
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "d.png").write_bytes(b"")
    images = load_images(folder_config(tmp_path, skip_bad=True))
    np.testing.assert_array_equal(images.pixels[:, 0, 0, 0], [0, 80, 160])
    assert list(images.skipped) == [f"b.png ({NO_IMAGE})", f"d.png ({NO_IMAGE})"]


@pytest.mark.parametrize("skip_bad", [False, True])
def test_folder_of_bad_images_alone_is_refused(tmp_path, skip_bad):
    (tmp_path / "a.png").touch()
    message = refusal(load_images, folder_config(tmp_path, skip_bad=skip_bad))
    assert message.endswith(f": a.png ({NO_IMAGE}); remove or replace each")


def test_many_bad_images_are_listed_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "data"
    fill(folder, ["good.png"])
    lines = [f"{k:02}.jpg ({NO_IMAGE})" for k in range(30)]
    for k in range(30):
        (folder / f"{k:02}.jpg").touch()
    message = refusal(load_images, folder_config(folder))
    (listed,) = tmp_path.glob("*.txt")
    first = f"{', '.join(lines[:20])} and 10 more"
    assert f" cannot be read: {first}, all listed in {listed}; remove" in message
    assert listed.read_text().splitlines() == lines
    # When they are skipped, the caller has the list.
    images = load_images(folder_config(folder, skip_bad=True))
    assert list(images.skipped) == lines
    assert capsys.readouterr().err.endswith(f" and are left out: {first}\n")


def test_image_that_vanishes_before_it_is_read_is_named(tmp_path, monkeypatch):
    def find_and_lose(folder):
        fill(tmp_path, NAMES)
        found = find_files(folder)
        (tmp_path / "d.Png").unlink()
        return found

    monkeypatch.setattr(folder_module, "find_files", find_and_lose)
    for skip_bad in (False, True):
        config = folder_config(tmp_path, skip_bad=skip_bad)
        assert refusal(load_images, config) == (
            f"data_dir: cannot read {tmp_path}/d.Png (No such file or directory), "
            "which may be a good image and is not left out; make it readable or remove "
            "it, and start again"
        )
