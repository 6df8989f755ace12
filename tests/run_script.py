"""The commands, run in the process of the tests."""

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run_script(name, flags, status=0):
    """Return stdout and stderr of `ddpm-NAME FLAGS`; assert its exit status.

    Neither is a terminal, so that no control character may reach them.
    """
    main = importlib.import_module(f"ddpm_keras.cli.{name}").main
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        found = main(shlex.split(flags))
    assert found == status, f"status {found}, not {status}: {errors.getvalue()}"
    for stream in (output, errors):
        assert not re.search(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]", stream.getvalue())
    return output.getvalue(), errors.getvalue()
