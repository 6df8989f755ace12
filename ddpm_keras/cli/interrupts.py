"""What Ctrl-C and `kill` do before a run has begun, and after it has ended."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from ddpm_keras.runs.stop_signal import handling_signals

INTERRUPTS = ("SIGINT", "SIGTERM", "SIGHUP")


def handling_interrupts(handle: Callable) -> AbstractContextManager[None]:
    """Handle Ctrl-C, SIGTERM and SIGHUP as `handling_signals` does."""
    return handling_signals(INTERRUPTS, handle)
