"""How a command ends: its exit status, its line on stderr; errors with keys."""

import importlib
import sys
import warnings

import pytest

from ddpm_keras.cli.command import command, hidden
from ddpm_keras.errors import ArgumentError, InputError, RunError, warn

MEMORY = (
    "error: there is not enough memory; make the batch size smaller, or img_size and "
    "the network (first_conv_channels, channel_multiplier)\n"
)


class ResourceExhaustedError(Exception):
    """As TensorFlow's is called."""


def raises(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "error, status, line",
    [
        (InputError("a.yaml:1: wrong"), 2, "error: a.yaml:1: wrong\n"),
        (InputError("a\nb: no such file"), 2, "error: a b: no such file\n"),
        (RunError("disk full"), 1, "error: disk full\n"),
        (
            OSError(28, "No space left on device", "a.png"),
            1,
            "error: [Errno 28] No space left on device: 'a.png'\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        # What a file says must not reach the terminal as it is.
        (InputError("\x1b[2J\x9b1m\r"), 2, "error: \\x1b[2J\\x9b1m\n"),
        (InputError("photos/\udcff.png: é"), 2, "error: photos/\\udcff.png: é\n"),
        (MemoryError("Unable to allocate"), 1, MEMORY),
        (ResourceExhaustedError("OOM when allocating a tensor"), 1, MEMORY),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying"), 1, MEMORY),
    ],
)
def test_trouble_is_one_line_and_a_status(capsys, error, status, line):
    assert command(raises(error))([]) == status
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", line)


def test_warnings_of_python_are_one_line_too(capsys):
    command(lambda argv: warnings.warn("large\nattention", stacklevel=1))([])
    assert capsys.readouterr().err == "warning: large attention\n"
    assert warnings.showwarning.__name__ != "<lambda>"


def test_warning_is_one_line_and_safe_to_print(capsys):
    warn("\x1b]0;title\x07 of\na file")
    assert capsys.readouterr().err == "warning: \\x1b]0;title\\x07 of a file\n"


@pytest.mark.parametrize("result, status", [(None, 0), (0, 0), (3, 3)])
def test_result_of_main_is_the_status(result, status):
    assert command(lambda argv: result)([]) == status


def test_arguments_reach_main():
    received = []
    command(received.append)(["--seed", "1"])
    assert received == [["--seed", "1"]]


@pytest.mark.parametrize("error", [InputError("wrong"), RunError("wrong")])
def test_debug_shows_the_traceback_too(capsys, monkeypatch, error):
    command(raises(error))(["--debug"])
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith("\nerror: wrong\n")

    command(raises(InputError("\x1b[2J")))(["--debug"])
    assert "\x1b" not in capsys.readouterr().err

    monkeypatch.setattr(sys, "argv", ["train.py", "--debug"])
    command(raises(error))()
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_defect_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command(lambda argv: 1 // 0)([])


def test_argument_error_carries_its_keys():
    error = ArgumentError("They must fit.", width=3, groups=[2])
    assert error.keys == ("width", "groups")
    assert str(error) == "They must fit. Received: width=3, groups=[2]"


def test_packages_that_no_command_uses_are_not_loaded_with_keras(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with hidden(["colorsys", "json"]):
        with pytest.raises(ImportError):
            importlib.import_module("colorsys")
        importlib.import_module("json")  # loaded before
    importlib.import_module("colorsys")
