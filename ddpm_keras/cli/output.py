"""Output that cannot stop a command: a closed pipe, a full disk, letters it lacks."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Self, TextIO

from ddpm_keras.errors import warn


class Output:
    """A text stream that warns of its first failure elsewhere and then stays silent.

    Characters that the stream's encoding lacks are written as escapes.

    Args:
        stream: The stream; None, where a process has none, is an empty device.
        name: Its name in the warning.
    """

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self._stream = open(os.devnull, "w") if stream is None else stream
        self._name = name
        self._failed = False
        self.other: Self | None = None  # where the warning goes

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        shown = text.encode(encoding, "backslashreplace").decode(encoding)
        self._try(self._stream.write, shown)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, function: Any, *args: Any) -> None:
        if self._failed or getattr(self._stream, "closed", False):
            return
        try:
            function(*args)
        except OSError as error:
            self._failed = True
            # What waits in its buffer would fail again at the end of the process.
            with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
            if self.other is not None:
                reason = error.strerror or error
                self.other.write(
                    f"warning: {self._name}: {reason}; going on without it\n"
                )
                self.other.flush()


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Keep out of stderr what compiled libraries write there while they load.

    TensorFlow writes some lines whatever its level of logging is.
    """
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError):  # a process may have no stderr
            kept = os.dup(2)
            undo.callback(os.close, kept)
            undo.callback(os.dup2, kept, 2)
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        yield


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Let neither stdout nor stderr fail within the block.

    Python's warnings, which name a line of source, are printed as those of commands.
    """
    output, errors = Output(sys.stdout, "stdout"), Output(sys.stderr, "stderr")
    output.other, errors.other = errors, output
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        warnings.catch_warnings(),
    ):
        warnings.showwarning = lambda message, *others, **more: warn(str(message))
        try:
            yield
        finally:
            output.flush()
            errors.flush()
