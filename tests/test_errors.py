"""Exit status and stderr of `run_command`."""

import sys

import pytest

from ddpm_keras.errors import InputError, RunError, run_command


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
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_trouble_is_one_line_and_a_status(capsys, error, status, line):
    assert run_command(raises(error), []) == status
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", line)


@pytest.mark.parametrize("result, status", [(None, 0), (0, 0), (3, 3)])
def test_result_of_main_is_the_status(result, status):
    assert run_command(lambda argv: result, []) == status


def test_arguments_reach_main():
    received = []
    run_command(received.append, ["--seed", "1"])
    assert received == [["--seed", "1"]]


@pytest.mark.parametrize("error", [InputError("wrong"), RunError("wrong")])
def test_debug_shows_the_traceback_too(capsys, monkeypatch, error):
    run_command(raises(error), ["--debug"])
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith("\nerror: wrong\n")

    monkeypatch.setattr(sys, "argv", ["train.py", "--debug"])
    run_command(raises(error))
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_defect_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda argv: 1 // 0, [])
