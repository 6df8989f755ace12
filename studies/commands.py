"""What every study does: run the package's own commands, and keep what they find."""

import csv
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT / "docs" / "studies"
# Fixed features, so that no download stands between a reader and the same numbers.
FEATURES = "random:0"


def train(run, *flags):
    """Train to the end of what `flags` say, going on where `run` exists."""
    run = Path(run)
    start = ["--resume"] if (run / "config.yaml").is_file() else []
    _call("train.py", "--run-dir", run, *start, *flags)


def measure(weights, out, *flags):
    """The results of `evaluate.py` as a dict of numbers, measured once.

    A measure's standard error stands under its name with "error" behind it.
    """
    found = Path(out) / "metrics.json"
    if not found.is_file():
        _call("evaluate.py", "--weights", weights, "--out", out, *flags)
    numbers = {}
    for name, result in json.loads(found.read_text())["results"].items():
        numbers[name] = result["value"]
        if result["error"] is not None:
            numbers[f"{name} error"] = result["error"]
    return numbers


def write_table(name, rows):
    """Write rows, dicts of one shape, to `docs/studies/NAME.csv` and the terminal."""
    path = TABLES / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    shown = [
        {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
        for row in rows
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, shown[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(shown)
    print(path.read_text())
    print(f"table: {path}")


def _call(script, *arguments):
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)
