"""The scripts as modules and as commands, in the process of the tests."""

import contextlib
import importlib.util
import io
import shlex
from pathlib import Path

from ddpm_keras.errors import run_command

SCRIPTS = Path(__file__).parents[1] / "scripts"


def load_script(name):
    """The module of `scripts/NAME.py`."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(name, flags, status=0):
    """Output and errors of `scripts/NAME.py FLAGS`, which is to exit with `status`."""
    main, output, errors = load_script(name).main, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        found = run_command(main, shlex.split(flags))
    assert found == status, f"status {found}, not {status}: {errors.getvalue()}"
    return output.getvalue(), errors.getvalue()
