"""The cache of decoded images: filled once, resumed, shared, read as memory is."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from filelock import FileLock
from PIL import Image
from refusal import refusal
from run_script import run_script

from ddpm_keras import progress
from ddpm_keras.cli.command import command
from ddpm_keras.config import Config
from ddpm_keras.data import cache, cache_writer, load_images, open_source
from ddpm_keras.data.batches import make_batches, make_validation_batches
from ddpm_keras.data.cache_writer import HEADER, JOURNAL, CacheWriter
from ddpm_keras.errors import RunError


@pytest.fixture
def photos(tmp_path):
    """A folder of 200 images in two classes, of which two cannot be read."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for k in range(100):
            pixels = rng.integers(0, 256, (9, 8, 3), "uint8")
            Image.fromarray(pixels).save(folder / name / f"{k:03}.png")
    for name in ("a/007.png", "b/090.png"):
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def config_of(tmp_path, photos):
    """A function that makes a configuration of these images."""
    keys = {
        "dataset_name": "folder",
        "data_dir": str(photos),
        "img_size": 8,
        "channel_multiplier": [1],
        "has_attention": [False],
        "cache": "disk",
        "cache_dir": str(tmp_path / "cache"),
        "skip_bad": True,
        "class_labels": True,
    }
    return lambda **changes: Config(**{**keys, **changes})


def entries(tmp_path, suffix=""):
    """The folders of the cache, without or with a suffix."""
    found = (tmp_path / "cache").iterdir()
    return [p for p in found if p.is_dir() and p.suffix == suffix]


def no_decoding(*args):
    raise AssertionError("an image is decoded")


def refuse(*args, **options):
    raise PermissionError(errno.EACCES, "Permission denied")


def assert_equal(images, wanted):
    np.testing.assert_array_equal(images.pixels, wanted.pixels)
    np.testing.assert_array_equal(images.labels, wanted.labels)
    assert list(images.ids) == list(wanted.ids)
    assert (images.names, images.skipped) == (wanted.names, wanted.skipped)


def test_cache_holds_what_memory_holds_and_is_filled_once(
    tmp_path, config_of, monkeypatch, capsys
):
    wanted = load_images(config_of(cache="ram"))
    assert len(wanted) == 198 and wanted.names == ("a", "b")
    assert_equal(load_images(config_of()), wanted)
    (entry,) = entries(tmp_path)
    assert np.load(entry / "pixels.npy").shape == (198, 8, 8, 3)
    assert (entry / "pixels.npy").stat().st_size == HEADER + 198 * 192
    monkeypatch.setattr("ddpm_keras.data.folder.read_pixels", no_decoding)
    again = load_images(config_of())
    assert_equal(again, wanted)
    # Neither labels nor the wish to skip decode anything anew.
    assert load_images(config_of(class_labels=False)).labels is None
    capsys.readouterr()
    message = refusal(load_images, config_of(skip_bad=False))
    assert " 2 of 200 images in " in message and "--skip_bad true" in message


def test_drawn_flowers_are_cached_with_their_labels(tmp_path):
    keys = {"dataset_name": "petals", "num_images": 130, "img_size": 4}
    network = {"channel_multiplier": [1], "has_attention": [False]}
    keys = {
        **keys,
        **network,
        "class_labels": True,
        "cache_dir": str(tmp_path / "cache"),
    }
    wanted = load_images(Config(**keys, cache="ram"))
    assert_equal(load_images(Config(**keys, cache="disk")), wanted)
    (entry,) = entries(tmp_path)
    np.testing.assert_array_equal(np.load(entry / "labels.npy"), wanted.labels)


def test_interrupted_filling_goes_on(tmp_path, config_of, monkeypatch):
    wanted = load_images(config_of(cache="ram"))
    add, decoded = CacheWriter.add, []

    def stop_early(writer, block):
        add(writer, block)
        raise KeyboardInterrupt

    monkeypatch.setattr(CacheWriter, "add", stop_early)
    with pytest.raises(KeyboardInterrupt):
        load_images(config_of())
    monkeypatch.setattr(
        CacheWriter, "add", lambda *args: decoded.append(args[1]) or add(*args)
    )
    (part,) = entries(tmp_path, ".part")
    # As a crash leaves it: pixels and a line that nothing vouches for.
    with (part / "pixels.npy").open("ab") as file:
        file.write(b"x" * 1000)
    with (part / JOURNAL).open("ab") as file:
        file.write(b'{"stop": 12')
    assert_equal(load_images(config_of()), wanted)
    assert decoded[0].ids[0] == "a/064.png"  # after the first block
    assert entries(tmp_path, ".part") == []


def test_lost_pixels_are_decoded_again(tmp_path, config_of):
    source = open_source(config_of())
    writer = CacheWriter(tmp_path / "x.part", source.shape, source.count)
    with ThreadPoolExecutor() as threads:
        for block in source.blocks(0, threads):
            writer.add(block)
    pixels = weakref.ref(block.pixels)
    del block
    assert pixels() is None  # or memory would grow until the next save
    writer.save()
    writer.close()
    os.truncate(tmp_path / "x.part" / "pixels.npy", HEADER + 197 * 192)
    writer = CacheWriter(tmp_path / "x.part", source.shape, source.count)
    assert (writer.stop, writer.ids) == (0, [])
    writer.close()


@pytest.mark.parametrize("number", [1, 2])
def test_interrupted_save_writes_no_line_twice(
    tmp_path, config_of, monkeypatch, number
):
    calls = []

    def flush(file):
        cache_writer_flush(file)
        calls.append(file)
        if len(calls) == number:
            raise KeyboardInterrupt

    cache_writer_flush = cache_writer._flush
    monkeypatch.setattr(cache_writer, "_flush", flush)
    with pytest.raises(KeyboardInterrupt):
        load_images(config_of())
    (part,) = entries(tmp_path, ".part")
    assert len((part / JOURNAL).read_text().splitlines()) == number - 1
    monkeypatch.undo()
    assert_equal(load_images(config_of()), load_images(config_of(cache="ram")))


CHANGES = ["time", "content", "name", "new", "size", "background", "channels"]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_are_decoded_anew(tmp_path, config_of, photos, change):
    load_images(config_of())
    path = photos / "a" / "000.png"
    if change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "content":
        Image.new("RGB", (8, 8)).save(path)
    elif change == "name":
        path.rename(path.with_name("z.png"))
    elif change == "new":
        Image.new("RGB", (8, 8)).save(photos / "b" / "new.png")
    keys = {
        "size": {"img_size": 4},
        "background": {"background": "black"},
        "channels": {"img_channels": 1},
    }.get(change, {})
    images = load_images(config_of(**keys))
    assert_equal(images, load_images(config_of(cache="ram", **keys)))
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("key, value", [("seed", 1), ("num_images", 9)])
def test_other_drawn_flowers_have_another_cache(config_of, key, value):
    petals = {"dataset_name": "petals", "data_dir": None, "num_images": 8}
    one, other = (config_of(**petals | some) for some in ({}, {key: value}))
    assert open_source(one).describe() != open_source(other).describe()


def test_processes_fill_the_cache_in_order(tmp_path, config_of, monkeypatch, capsys):
    monkeypatch.setattr(cache, "FEW", 0)
    workers = []

    def start(*args):
        workers.append(executor(*args))
        return workers[0]

    executor = cache.ProcessPoolExecutor
    monkeypatch.setattr(cache, "ProcessPoolExecutor", start)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert_equal(load_images(config_of()), load_images(config_of(cache="ram")))
    assert workers
    assert re.search(
        r"^cache: 128 of 200 images, \d+ s left$", capsys.readouterr().out, re.M
    )


def test_second_process_waits_for_the_first(tmp_path, config_of, monkeypatch, capsys):
    load_images(config_of())
    (entry,) = entries(tmp_path)
    entry.rename(tmp_path / "kept")
    monkeypatch.setattr("ddpm_keras.data.folder.read_pixels", no_decoding)
    lock = FileLock(f"{entry}.lock")
    lock.acquire()
    found = []
    waiting = threading.Thread(target=lambda: found.append(load_images(config_of())))
    waiting.start()
    ends = time.monotonic() + 30
    while "waiting" not in capsys.readouterr().out:
        assert time.monotonic() < ends, "it does not say that it waits"
        time.sleep(0.01)
    (tmp_path / "kept").rename(entry)
    lock.release()
    waiting.join()
    assert len(found[0]) == 198


def test_disk_that_is_full_is_reported_and_nothing_is_lost(
    tmp_path, config_of, monkeypatch
):
    add = CacheWriter.add

    def full(writer, block):
        if writer.stop + len(writer._new):
            raise OSError(28, "No space left on device")
        add(writer, block)

    monkeypatch.setattr(CacheWriter, "add", full)
    message = refusal(load_images, config_of(), error=RunError)
    (part,) = entries(tmp_path, ".part")
    assert message == (
        f"cache: cannot write {part} (No space left on device); make room, or name "
        "another folder with --cache_dir; the next start goes on from here"
    )
    assert json.loads((part / JOURNAL).read_text())["stop"] == 64


def test_too_small_a_disk_is_refused_before_anything_is_decoded(
    config_of, monkeypatch, tmp_path
):
    monkeypatch.setattr("ddpm_keras.data.folder.read_pixels", no_decoding)
    usage = cache.shutil.disk_usage(tmp_path)._replace(free=38_000)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    message = refusal(load_images, config_of())
    assert message.startswith("cache_dir: the images need 0.0 GB, and ")


def test_damaged_cache_is_reported(tmp_path, config_of):
    load_images(config_of())
    (entry,) = entries(tmp_path)
    os.truncate(entry / "pixels.npy", 500)
    message = refusal(load_images, config_of(), error=RunError)
    assert message.startswith(f"cache: {entry} is damaged (")
    assert message.endswith("); delete it, and the next run fills it again")


def test_cache_that_is_cut_while_it_is_read_is_reported(tmp_path, config_of, capsys):
    images = load_images(config_of())
    (entry,) = entries(tmp_path)
    os.truncate(entry / "pixels.npy", 500)  # to read image 190 kills the process
    start = f"cache: {entry}/pixels.npy has been cut short; delete {entry}, and "
    assert refusal(images.pixels.__getitem__, 190, error=RunError).startswith(start)

    @command
    def main(argv):
        next(iter(make_batches(images, 4, 1)[0]))

    assert main([]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {start}")


def withhold(monkeypatch, path, error):
    """Let the system fail to open a file; tests may run as root, who may read all."""
    opened = Image.open

    def open_or_fail(file, *args, **options):
        if str(file) == str(path):
            raise error
        return opened(file, *args, **options)

    monkeypatch.setattr(Image, "open", open_or_fail)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
    ],
    ids=str,
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_good_image_that_cannot_be_read_now_is_not_kept_as_a_broken_one(
    tmp_path, config_of, photos, monkeypatch, error, skip_bad
):
    wanted, path = load_images(config_of(cache="ram")), photos / "b" / "050.png"
    withhold(monkeypatch, path, error)
    reason = getattr(error, "strerror", None) or "there is not enough memory"
    for kind in ("ram", "disk"):
        message = refusal(load_images, config_of(cache=kind, skip_bad=skip_bad))
        assert message == (
            f"data_dir: cannot read {path} ({reason}), which may be a good image and "
            "is not left out; make it readable or remove it, and start again"
        )
    assert entries(tmp_path) == []
    monkeypatch.undo()
    assert_equal(load_images(config_of()), wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
def test_process_that_cannot_read_an_image_says_so(config_of, photos, monkeypatch):
    monkeypatch.setattr(cache, "FEW", 0)
    (photos / "b" / "050.png").unlink()
    (photos / "b" / "050.png").symlink_to("/proc/self/mem")
    message = refusal(load_images, config_of())
    assert f"{photos}/b/050.png ({os.strerror(errno.EIO)}), which may be" in message


def test_cache_folder_that_cannot_be_made_is_reported(config_of, tmp_path):
    (tmp_path / "file").touch()
    message = refusal(load_images, config_of(cache_dir=str(tmp_path / "file" / "c")))
    assert message == (
        f"cache_dir: cannot write in {tmp_path}/file/c (Not a directory); name another "
        "folder, or use cache: ram"
    )


@pytest.mark.parametrize("opener", ["tempfile.TemporaryFile", "FileLock.acquire"])
def test_cache_folder_that_cannot_be_written_is_reported(
    config_of, tmp_path, monkeypatch, opener
):
    # The second: the lock of another user.
    monkeypatch.setattr(f"ddpm_keras.data.cache.{opener}", refuse)
    message = refusal(load_images, config_of())
    assert message == (
        f"cache_dir: cannot write in {tmp_path}/cache (Permission denied); name "
        "another folder, or use cache: ram"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
def test_cache_folder_where_nothing_can_be_made_is_not_waited_for(config_of, capsys):
    message = refusal(load_images, config_of(cache_dir="/proc"))
    assert message.startswith("cache_dir: cannot write in /proc (")
    assert "waiting" not in capsys.readouterr().out


def test_cache_that_holds_the_images_need_not_be_written(config_of, monkeypatch):
    wanted = load_images(config_of())
    monkeypatch.setattr(cache.tempfile, "TemporaryFile", refuse)
    assert_equal(load_images(config_of()), wanted)


# The choice of memory or disk.


@pytest.mark.parametrize("free, on_disk", [(2 * 200 * 192, False), (76_799, True)])
def test_auto_takes_the_disk_above_half_of_the_free_memory(
    config_of, monkeypatch, capsys, free, on_disk
):
    memory = psutil.virtual_memory()._replace(available=free)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    config = config_of(cache="auto")
    found = cache.keeps_on_disk(open_source(config), config.cache, config.cache_dir)
    assert found is on_disk
    said = (
        "cache: 0.0 GB of images are more than half of the 0.0 GB of free memory; they "
        f"are kept in {config.cache_dir}\n"
    )
    assert capsys.readouterr().out == (said if on_disk else "")


def test_cache_is_by_default_that_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "ddpm_keras"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "ddpm_keras"
    assert Config().cache == "auto"


# What is read from it.


def test_digest_is_that_of_memory_and_is_read_once(config_of, monkeypatch):
    images, on_disk = load_images(config_of(cache="ram")), load_images(config_of())
    some = np.arange(3, 190, 2)
    digest = images.digest(some)
    assert on_disk.digest(some) == digest
    again = load_images(config_of())
    monkeypatch.setattr(type(again), "_read_digest", no_decoding)
    assert again.digest(some) == digest
    assert again.take(some).digest(np.arange(len(some))) == digest
    monkeypatch.undo()
    assert again.digest(some[1:]) == images.digest(some[1:])
    plain = load_images(config_of(class_labels=False))
    assert plain.digest(some) != digest  # it has no labels


def test_batches_are_those_of_memory(config_of):
    images, on_disk = load_images(config_of(cache="ram")), load_images(config_of())
    indices = np.arange(1, 190, 3)
    for make in (
        lambda i: make_batches(i, 8, 2, seed=3, first_step=5, indices=indices)[0],
        lambda i: make_validation_batches(i, 8, indices),
    ):
        for found, wanted in zip(make(on_disk), make(images), strict=True):
            for one, other in zip(found, wanted, strict=True):
                assert one.numpy().tobytes() == other.numpy().tobytes()


def test_pixels_are_mapped_and_not_copied(config_of):
    images = load_images(config_of())
    assert isinstance(images.pixels.array.base, np.memmap)
    assert images.take(slice(9)).pixels.array is images.pixels
    with pytest.raises(ValueError, match="always a copy"):
        np.asarray(images.pixels, copy=False)


# Clearing.


def test_cache_is_cleared_except_what_is_written_now(tmp_path, config_of):
    load_images(config_of())
    load_images(config_of(img_size=4))
    (tmp_path / "cache" / "mine.txt").touch()
    mapped = load_images(config_of()).pixels
    wanted = np.array(mapped)
    busy, other = entries(tmp_path)
    with FileLock(f"{busy}.lock"):
        said = cache.clear_cache(str(tmp_path / "cache"))
    assert said.startswith("cache: removed 1 data sets, 0.0 GB, from ")
    assert said.endswith("; 1 are being written and stay")
    assert entries(tmp_path) == [busy]
    locks = {p: p.stat().st_ino for p in (tmp_path / "cache").glob("*.lock")}
    cache.clear_cache(str(tmp_path / "cache"))
    # A process that has taken or awaits a lock goes on to keep out all others.
    assert {p: p.stat().st_ino for p in locks} == locks and len(locks) == 2
    left = {p.name for p in (tmp_path / "cache").iterdir()}
    assert left == {"mine.txt", *(p.name for p in locks)}
    np.testing.assert_array_equal(mapped, wanted)  # who reads it can go on
    output, _ = run_script("train", f"--clear-cache --cache_dir {tmp_path}/nowhere")
    assert output.startswith("cache: removed 0 data sets, ")


def test_cache_that_cannot_be_cleared_is_reported(tmp_path, config_of, monkeypatch):
    load_images(config_of())
    monkeypatch.setattr(cache.shutil, "rmtree", refuse)
    assert refusal(cache.clear_cache, str(tmp_path / "cache")) == (
        f"cache_dir: cannot clear {tmp_path}/cache (Permission denied); check its "
        "permissions, or name another folder"
    )


def test_cache_of_a_configuration_is_cleared_and_no_other(
    tmp_path, config_of, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for folder in (None, str(tmp_path / "named")):
        load_images(config_of(cache_dir=folder))
    (tmp_path / "named.yaml").write_text(f"cache_dir: {tmp_path}/named\n")
    output, _ = run_script("train", f"--clear-cache --config {tmp_path}/named.yaml")
    assert output.startswith("cache: removed 1 data sets, ")
    assert {path.suffix for path in (tmp_path / "named").iterdir()} == {".lock"}
    assert list((tmp_path / "ddpm_keras").glob("*"))


KILLED = """
import sys, time
from ddpm_keras import Config, load_images
from ddpm_keras.data import cache, folder

def slowly(*args):
    time.sleep(0.02)
    return decode(*args)

decode, folder.read_pixels = folder.read_pixels, slowly
cache.FEW = 0
if __name__ == "__main__":
    load_images(Config.model_validate_json(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_process_leaves_no_other_behind(tmp_path, config_of):
    (tmp_path / "killed.py").write_text(KILLED)
    argv = [sys.executable, str(tmp_path / "killed.py")]
    process = subprocess.Popen([*argv, config_of().model_dump_json()])
    children = []
    while len(children) < 2:
        time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert entries(tmp_path) == []
    assert len(load_images(config_of())) == 198
