"""Output that fails, an interrupt and a missing backend: what every command does."""

import contextlib
import importlib
import io
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddpm_keras.cli import start
from ddpm_keras.cli.command import command
from ddpm_keras.cli.output import silent_libraries
from ddpm_keras.runs.stop_signal import Stopped, StopSignal


@contextlib.contextmanager
def replaced(**streams):
    """Put files in the place of `stdout` and `stderr`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        yield


def closed_pipe():
    """A text file that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def test_libraries_are_silent_while_they_load(capfd):
    with silent_libraries():
        os.write(2, b"I0000 port.cc: oneDNN custom operations are on.\n")
    os.write(2, b"error: ours\n")
    assert capfd.readouterr().err == "error: ours\n"


def full_disk():
    return open("/dev/full", "w")


def latin():
    return io.TextIOWrapper(io.BytesIO(), "latin-1")


def talk(argv):
    """A command that says much, to both streams."""
    for number in range(3):
        print("x" * 100_000, flush=number == 1)
    print("done", file=sys.stderr)
    return 3


@pytest.mark.parametrize(
    "make, reason",
    [(closed_pipe, "Broken pipe"), (full_disk, "No space left on device")],
)
@pytest.mark.parametrize("name, other", [("stdout", "stderr"), ("stderr", "stdout")])
def test_output_that_fails_is_a_warning_elsewhere(make, reason, name, other):
    with make() as broken, replaced(**{name: broken, other: io.StringIO()}):
        assert command(talk)([]) == 3
        shown = getattr(sys, other).getvalue()
    line = f"warning: {name}: {reason}; going on without it\n"
    assert shown.count("warning: ") == 1 and shown.endswith(line) == (name == "stderr")
    assert line in shown
    # `broken` has been closed by now, which would have failed as at the process' end.


def test_last_words_that_wait_in_a_buffer_fail_before_the_end():
    with full_disk() as broken, replaced(stdout=broken, stderr=io.StringIO()):
        assert command(lambda argv: print("short"))([]) == 0
        assert "warning: stdout: No space left" in sys.stderr.getvalue()


def test_both_outputs_may_fail_or_be_missing():
    with closed_pipe() as out, full_disk() as errors:
        with replaced(stdout=out, stderr=errors):
            assert command(talk)([]) == 3
    with replaced(stdout=None, stderr=None):
        assert command(talk)([]) == 3


def test_letters_that_a_terminal_lacks_are_escaped():
    with latin() as terminal, replaced(stdout=terminal, stderr=terminal):
        assert command(lambda argv: print("run: é/ś/\udcff"))([]) == 0
        shown = terminal.buffer.getvalue()
    assert shown == "run: é/\\u015b/\\udcff\n".encode("latin-1")


# Interrupts.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_that_a_module_turns_into_another_error_is_silent(capsys, number):
    def load(argv):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    assert command(load)([]) == 128 + number
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_while_a_command_loads_ends_it_at_once(monkeypatch, number):
    class Ended(BaseException):
        pass

    def end(status):
        assert status == 128 + number
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(
        importlib, "import_module", lambda name: signal.raise_signal(number)
    )
    before = signal.getsignal(number)
    with pytest.raises(Ended):
        start.train()
    assert signal.getsignal(number) is before


# Backends.


@pytest.mark.parametrize(
    "backend, message",
    [
        ("flax", "KERAS_BACKEND: unknown name 'flax'; choose from tensorflow, jax"),
        ("numpy", "KERAS_BACKEND: unknown name 'numpy'; choose from"),
        ("jax", "KERAS_BACKEND=jax: cannot be loaded (import of keras halted; "),
        ("torch", "KERAS_BACKEND=torch: cannot be loaded (import of keras halted; "),
    ],
)
@pytest.mark.parametrize("name", ["train", "sample", "convert", "evaluate", "export"])
def test_backend_that_is_missing_is_one_line(
    name, backend, message, monkeypatch, tmp_path, capsys
):
    from ddpm_keras.config import Config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setitem(sys.modules, "keras", None)
    argv = ["--config", "demo", "--run-dir", "run"]
    if name != "train":
        main = f"ddpm_keras.cli.{name}"
        found = ("weights.safetensors", Config(dataset_name="petals"))
        monkeypatch.setattr(f"{main}.weights_and_config", lambda args: found)
        out = "a.safetensors" if name == "convert" else "out"
        argv = ["--weights", "weights.safetensors", "--out", out]
    assert importlib.import_module(f"ddpm_keras.cli.{name}").main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
    package = {"jax": "'ddpm_keras[jax]'", "torch": "torch"}.get(backend)
    assert package is None or f"; run pip install {package}, or set " in error
    assert list(tmp_path.iterdir()) == []


# Signals that stop.


@pytest.mark.parametrize(
    "name, status",
    [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("SIGUSR1", 138)]
    + [("SIGUSR2", 140), ("SIGXCPU", 152)],
)
def test_signal_stops_at_the_next_check(name, status, capsys):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with StopSignal() as stop:
        stop.check()
        signal.raise_signal(number)
        with pytest.raises(Stopped) as stopped:
            stop.check()
        with pytest.raises(Stopped), stop.stoppable():
            pass
    assert stopped.value.status == status
    assert signal.getsignal(number) is before
    assert capsys.readouterr().err.startswith(f"\n{name}: stopping")


def test_only_a_second_ctrl_c_or_sigterm_ends_at_once(monkeypatch):
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)
    with StopSignal() as stop:
        for name in ("SIGXCPU", "SIGXCPU", "SIGHUP", "SIGHUP", "SIGTERM", "SIGINT"):
            signal.raise_signal(getattr(signal, name))
        assert ends == []
        signal.raise_signal(signal.SIGTERM)
        assert ends == [143]
        with pytest.raises(Stopped) as stopped:
            stop.check()
    assert stopped.value.status == 152  # that of the first


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
def test_what_is_ignored_does_not_stop_a_run(name):
    """As a closed terminal under nohup, or Ctrl-C in the background of a script."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            signal.raise_signal(number)
            stop.check()
    finally:
        signal.signal(number, before)


def test_handler_that_is_not_of_python_stays(monkeypatch):
    """`signal.getsignal` returns None for it, and it could not be put back."""
    handler_of = signal.getsignal
    before = handler_of(signal.SIGTERM)
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    with StopSignal():
        assert handler_of(signal.SIGTERM) is before


def test_thread_beside_the_main_one_works_without_signals():
    def work():
        with StopSignal() as stop, stop.stoppable():
            return "done"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == "done"


def test_signal_stops_also_when_its_message_cannot_be_printed():
    class Busy(io.StringIO):
        def write(self, text):
            raise RuntimeError("reentrant call")

    with replaced(stderr=Busy()), StopSignal() as stop:
        with pytest.raises(Stopped), stop.stoppable():
            signal.raise_signal(signal.SIGTERM)
