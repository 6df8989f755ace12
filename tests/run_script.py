"""The commands, run in the process of the tests."""

import contextlib
import importlib
import io
import shlex
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run_script(name, flags, status=0):
    """Return stdout and stderr of `ddpm-NAME FLAGS`; assert its exit status."""
    main = importlib.import_module(f"ddpm_keras.cli.{name}").main
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        found = main(shlex.split(flags))
    assert found == status, f"status {found}, not {status}: {errors.getvalue()}"
    return output.getvalue(), errors.getvalue()
