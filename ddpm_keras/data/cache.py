"""A cache of decoded images on disk, which runs share and read through a memory map.

Each data set has a folder there, named by a hash of the sources and of the size: the
pixels as `pixels.npy`, any labels as `labels.npy`, and `images.json` with what
identifies each image and which ones could not be read. It appears when it is complete.
"""

import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ddpm_keras.data.cache_writer import FACTS, LABELS, PIXELS, CacheWriter
from ddpm_keras.data.images import Images, LazyPixels
from ddpm_keras.data.source import Block, Source
from ddpm_keras.errors import InputError, RunError
from ddpm_keras.memory import free_memory
from ddpm_keras.progress import Progress

VERSION = 1  # to be raised when the same images are decoded to other pixels
ENTRY = re.compile(r"([0-9a-f]{64})(\.part|\.lock)?")
FEW = 2000  # images that are decoded sooner than processes start
GB = 1e9


class MappedPixels(LazyPixels):
    """The images of a cache, read through a memory map.

    A process that touches a page behind the end of a mapped file is killed (SIGBUS). So
    each read looks first whether the file has kept its size; only one that is cut in
    the microseconds between is still fatal.

    Args:
        path: An `.npy` file.

    Raises:
        ValueError: When the file is none, or shorter than its header says.
    """

    def __init__(self, path: Path):
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        self.array = np.asarray(mapped)
        self.shape, self.dtype = mapped.shape, mapped.dtype
        self._path, self._map, self._size = path, mapped.base, mapped.base.size()

    def __getitem__(self, rows: Any) -> np.ndarray:
        if self._map.size() < self._size:
            raise RunError(
                f"cache: {self._path} has been cut short; delete {self._path.parent}, "
                "and the next run fills it again"
            )
        found = self.array[rows]
        # A slice would be read later, when the file may be shorter.
        return found.copy() if np.may_share_memory(found, self.array) else found


def keeps_on_disk(source: Source, cache: str, folder: str | None) -> bool:
    """Decide whether a data set is kept in the cache on disk.

    Args:
        source: The data set.
        cache: "ram", "disk" or "auto", which says so when it chooses the disk.
        folder: As `load_cached`.
    """
    if cache != "auto":
        return cache == "disk"
    size, free = source.count * math.prod(source.shape), free_memory()
    if size <= free / 2:
        return False
    print(
        f"cache: {size / GB:.1f} GB of images are more than half of the "
        f"{free / GB:.1f} GB of free memory; they are kept in {cache_folder(folder)}"
    )
    return True


def cache_folder(folder: str | None = None) -> Path:
    """Return the cache's folder; None: `XDG_CACHE_HOME` or `~/.cache`, below it."""
    if folder is not None:
        return Path(folder)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "ddpm_keras")


def load_cached(source: Source, folder: str | None = None) -> Images:
    """Return the images of a source from the cache, which is filled first if need be.

    Args:
        source: The data set.
        folder: The cache's folder. None: that of the user; see `cache_folder`.

    Returns:
        `Images` whose pixels are `MappedPixels`.

    Raises:
        InputError: When the folder cannot be used, or as the source does.
        RunError: When the cache cannot be written.
    """
    description = {"version": VERSION, "shape": source.shape, **source.describe()}
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    root = cache_folder(folder)
    entry = root / key
    if not entry.is_dir():
        with _only_one(root / f"{key}.lock"):
            if not entry.is_dir():  # no other process has filled it meanwhile
                _fill(source, description, entry)
    try:
        whole = _open(entry, source)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"cache: {entry} is damaged ({error}); delete it, and the next run fills "
            "it again"
        ) from error
    return source.finish(whole, digests=entry)


def clear_cache(folder: str | None = None) -> str:
    """Remove every data set from the cache that no process is writing; report it.

    Its locks stay, as empty files: who has taken or awaits one that is removed would
    not keep out who makes a new one.

    Raises:
        InputError: When the folder cannot be written.
    """
    root = cache_folder(folder)
    removed = size = busy = 0
    found = list(root.iterdir()) if root.is_dir() else []
    for key in sorted({m[1] for path in found if (m := ENTRY.fullmatch(path.name))}):
        lock = root / f"{key}.lock"
        try:
            with FileLock(lock, timeout=0):
                for path in (root / key, root / f"{key}.part"):
                    if path.is_dir():
                        size += sum(f.stat().st_size for f in path.iterdir())
                        shutil.rmtree(path)
                        removed += 1
        except Timeout:
            busy += 1
        except OSError as error:
            raise InputError(
                f"cache_dir: cannot clear {root} ({error.strerror}); check its "
                "permissions, or name another folder"
            ) from error
    text = f"cache: removed {removed} data sets, {size / GB:.1f} GB, from {root}"
    return text + (f"; {busy} are being written and stay" if busy else "")


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Wait until no other process fills the same part of the cache; make its folder.

    Raises:
        InputError: When the folder cannot be made or written.
    """
    root, lock = path.parent, FileLock(path)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # In /proc, for example, where nothing can be made, a lock is waited for.
        tempfile.TemporaryFile(dir=root).close()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print("cache: another process is filling it; waiting")
            lock.acquire()
    except OSError as error:
        raise InputError(
            f"cache_dir: cannot write in {root} ({error.strerror}); name another "
            "folder, or use cache: ram"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _fill(source: Source, description: dict, entry: Path) -> None:
    """Decode all images into the cache, or go on with that."""
    part = entry.with_name(f"{entry.name}.part")
    try:
        writer = CacheWriter(part, source.shape, source.count)
        try:
            _check_space(source, writer.stop, entry.parent)
            _write(source, writer)
            writer.finish(description)
        except BaseException:
            with contextlib.suppress(OSError):
                writer.save()  # the next start goes on here
            raise
        finally:
            writer.close()
        part.rename(entry)
    except BrokenProcessPool as error:
        raise RunError(
            "cache: a process that decodes images has ended; there may be too little "
            "memory, or a script that calls load_images without "
            "`if __name__ == '__main__':`"
        ) from error
    except OSError as error:
        raise RunError(
            f"cache: cannot write {part} ({error.strerror or error}); make room, or "
            "name another folder with --cache_dir; the next start goes on from here"
        ) from error


def _check_space(source: Source, done: int, root: Path) -> None:
    """Raise an `InputError` unless the disk has room for the images to come."""
    size = (source.count - done) * math.prod(source.shape)
    free = shutil.disk_usage(root).free
    if size > free:
        raise InputError(
            f"cache_dir: the images need {size / GB:.1f} GB, and {root} has "
            f"{free / GB:.1f} GB free; name another folder, or use --clear-cache"
        )


def _write(source: Source, writer: CacheWriter) -> None:
    """Decode the images that are missing."""
    progress = Progress("cache", source.count, "images", writer.stop)
    with (
        contextlib.closing(progress),
        _workers(source.count - writer.stop) as workers,
    ):
        try:
            for block in source.blocks(writer.stop, workers):
                writer.add(block)
                progress.update(block.stop)
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise


def _workers(count: int) -> Executor:
    """Return threads or, for many images, processes that decode."""
    if count < FEW:
        return ThreadPoolExecutor()
    # Each may need as much for the largest image that is allowed.
    cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return ProcessPoolExecutor(
        max(1, min(cores, int(free_memory() / GB))),
        # A fork of a process with TensorFlow's threads may hang.
        multiprocessing.get_context("spawn"),
        _start_worker,
    )


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it, also when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _open(entry: Path, source: Source) -> Block:
    """Return all images of a source, as its cache holds them."""
    facts = json.loads((entry / FACTS).read_bytes())
    pixels = MappedPixels(entry / PIXELS)
    wanted = (len(facts["ids"]), *source.shape)
    if pixels.dtype != np.uint8 or pixels.shape != wanted:
        raise ValueError(f"{PIXELS} has the shape {pixels.shape}, not {wanted}")
    classes = None
    if (entry / LABELS).exists():
        classes = np.load(entry / LABELS, allow_pickle=False).tolist()
    return Block(pixels, facts["ids"], classes, facts["skipped"], source.count)
