"""What Ctrl-C and `kill` do before a run has begun, and after it has ended."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

INTERRUPTS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def handling_interrupts(handle: Callable) -> Iterator[None]:
    """Handle Ctrl-C, SIGTERM and SIGHUP by a function within the block.

    Its arguments are those of a handler of `signal.signal`. What is ignored stays so,
    as Ctrl-C in the background of a script, or SIGHUP under nohup.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in INTERRUPTS:
            number = getattr(signal, name, None)  # Windows lacks SIGHUP
            if number and signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
