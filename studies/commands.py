"""What every study does: run the package's own commands, and keep what they find."""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from ddpm_keras.denoiser import Denoiser
from ddpm_keras.weights import fingerprint

ROOT = Path(__file__).resolve().parents[1]
# Fixed features, so that no download stands between a reader and the same numbers.
FEATURES = "random:0"


def study_parser(description):
    """A parser with the flags of every study."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write tables and figures to docs/studies instead",
    )
    return parser


def results_folder(args):
    """Where a study's tables and figures go."""
    folder = ROOT / "docs" / "studies" if args.publish else args.out
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def train(run, *flags):
    """Train to the end of what `flags` say, going on where `run` exists."""
    run = Path(run)
    start = ["--resume"] if (run / "config.yaml").is_file() else []
    _call("train.py", "--run-dir", run, *start, *flags)


def measure(weights, out, *flags):
    """The figures of `evaluate.py`, measured once while the weights stay as they are.

    Returns:
        Two dicts of numbers: of the model, and of real images beside it. A standard
        error stands under its measure's name with "error" behind it.
    """
    found = Path(out) / "metrics.json"
    if not found.is_file() or not _is_of(found, weights):
        _call("evaluate.py", "--weights", weights, "--out", out, "--force", *flags)
    results = json.loads(found.read_text())["results"]
    return _numbers(results, "value", "error"), _numbers(
        results, "reference", "reference_error"
    )


def _is_of(found, weights):
    # Not by its date: a finished run writes the same weights anew when asked to go on.
    measured = json.loads(found.read_text())["protocol"]["weights_sha256"]
    return measured == fingerprint(Denoiser.from_weights(weights).network)


def _numbers(results, value, error):
    numbers = {}
    for name, result in results.items():
        if result[value] is not None:
            numbers[name] = result[value]
        if result[error] is not None:
            numbers[f"{name} error"] = result[error]
    return numbers


def write_table(path, rows):
    """Write rows, dicts of which the first has every key, as CSV, and print them."""
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
