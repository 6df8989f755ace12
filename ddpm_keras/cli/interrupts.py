"""What Ctrl-C does before a run has begun, and after it has ended."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def handling_interrupts(handle: Callable) -> Iterator[None]:
    """Handle Ctrl-C by a function within the block, as `signal.signal` does.

    Where Ctrl-C is ignored, as in the background of a script, it stays so.
    """
    before = signal.getsignal(signal.SIGINT)
    handled = threading.current_thread() is threading.main_thread()
    if not handled or before in (None, signal.SIG_IGN):
        yield
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
