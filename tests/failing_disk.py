"""A disk that fails at any operation, or loses what was not forced to it."""

import io
import os
import shutil
import stat
from pathlib import Path

import pytest
import safetensors.numpy
from safetensors import SafetensorError

from ddpm_keras.runs import checkpoint


class Crash(BaseException):
    """The process is gone: no `except` and no `finally` does anything any more."""


class Disk:
    """While it is entered, counts what the module does to the disk, and may fail.

    Each piece of 256 bytes is a write of its own. What `os.fsync` has not forced to
    the disk, contents and names, is known, and `lose_power` loses it.

    Args:
        fails: Takes the number and the kind of an operation; returns the exception
            that is raised in its place, or None.
    """

    def __init__(self, fails=lambda number, kind: None):
        self.fails = fails
        self.kinds = []
        self.unforced_files = set()  # inodes
        self.unforced_names = []  # (inode of the folder, inode, path before or None)

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        self.real = {
            n: getattr(os, n) for n in "open mkdir unlink rmdir rename".split()
        }
        self.real_open = io.open
        self.patch.setattr(io, "open", self.open_file)
        self.patch.setattr(checkpoint, "save_file", self.save_file)
        self.patch.setattr(os, "open", self.open)
        self.patch.setattr(os, "mkdir", self.mkdir)
        self.patch.setattr(os, "rename", self.rename)
        self.patch.setattr(os, "replace", self.rename)
        self.patch.setattr(os, "fsync", self.fsync)
        self.patch.setattr(os, "unlink", lambda *a, **k: self.remove("unlink", *a, **k))
        self.patch.setattr(os, "rmdir", lambda *a, **k: self.remove("rmdir", *a, **k))
        return self

    def __exit__(self, *error):
        self.patch.undo()

    def operate(self, kind):
        error = self.fails(len(self.kinds), kind)
        self.kinds.append(kind)
        if error is not None:
            raise error

    def open(self, *args, **kwargs):
        self.operate("open")
        return self.real["open"](*args, **kwargs)

    def mkdir(self, path, *args):
        self.operate("mkdir")
        self.real["mkdir"](path, *args)
        self.name(path)

    def rename(self, path, target):
        self.operate("rename")
        self.real["rename"](path, target)
        self.name(target, Path(path))

    def remove(self, kind, path, *, dir_fd=None):
        self.operate(kind)
        inode = os.stat(path, dir_fd=dir_fd).st_ino
        self.real[kind](path, dir_fd=dir_fd)
        self.unforced_files.discard(inode)  # The next file may get its inode.
        self.unforced_names = [n for n in self.unforced_names if n[1] != inode]

    def fsync(self, descriptor):
        self.operate("fsync")
        status = os.fstat(descriptor)
        self.unforced_files.discard(status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            # Once the new name of a file is forced, the old one cannot come back.
            forced = {n[1] for n in self.unforced_names if n[0] == status.st_ino}
            kept = [n for n in self.unforced_names if n[1] not in forced]
            self.unforced_names = kept

    def open_file(self, path, mode="r", *args, **kwargs):
        if mode != "wb":
            return self.real_open(path, mode, *args, **kwargs)
        self.operate("create")
        file = self.real_open(path, "wb", buffering=0)
        self.unforced_files.add(os.stat(path).st_ino)
        self.name(path)
        return Pieces(file, self)

    def save_file(self, arrays, path):
        """As safetensors does it: a temporary file beside the one, then a rename."""
        temporary = path.with_name(".tmpAbCdEf")
        try:
            with temporary.open("wb") as file:
                file.write(safetensors.numpy.save(arrays))
            os.rename(temporary, path)
        except OSError as error:
            raise SafetensorError(f"I/O error: {error}") from error

    def name(self, path, before=None):
        folder = os.stat(Path(path).parent).st_ino
        self.unforced_names.append((folder, os.stat(path).st_ino, before))

    def lose_power(self, root, zeros, lose_names):
        """Empty the files not forced to the disk; with `zeros`, to their old length."""
        for inode in self.unforced_files:
            file = find(root, inode)
            size = file.stat().st_size
            os.truncate(file, 0)
            os.truncate(file, size * zeros)
        for _, inode, before in reversed(self.unforced_names) if lose_names else ():
            path = find(root, inode)
            if before is not None:
                before.parent.mkdir(exist_ok=True)
                path.rename(before)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class Pieces:
    """A file that is written in pieces."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        for start in range(0, len(data), 256):
            self.disk.operate("write")
            self.file.write(bytes(data[start : start + 256]))


def find(root, inode):
    return next(path for path in root.rglob("*") if path.stat().st_ino == inode)


def crash_at(number):
    return Disk(lambda n, kind: Crash() if n >= number else None)
