"""Check that a checkout can be released, step by step; publish nothing.

    pip install -e ".[release]"
    python scripts/check_release.py --python python3.11 python3.12 python3.13

It builds the distributions in dist/, looks into them, and tries the wheel in a new
environment of each Python.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import ddpm_keras

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
SOURCES = ("tests/", "web/", "weights/", "configs/", "docs/", "Makefile")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    text = "interpreters to try the wheel with (default: this one)"
    parser.add_argument("--python", nargs="+", default=[sys.executable], help=text)
    text = "accept a development version, and files that are not committed"
    parser.add_argument("--rehearsal", action="store_true", help=text)
    args = parser.parse_args()
    if not args.rehearsal:
        check_checkout()
    build()
    (wheel,), (archive,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    check_contents(wheel, archive)
    for python in args.python:
        try_wheel(wheel, python)
    print("ready. What is left: make test-slow, a tag, twine upload dist/*")


def check_checkout():
    """Check that all is committed, and that version, changelog and notebook agree."""
    changed = run("git", "status", "--porcelain")
    require(not changed, f"not committed:\n{changed}")
    version = ddpm_keras.__version__
    require(re.fullmatch(r"\d+\.\d+\.\d+", version), f"{version} is no release")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (.*)$", changelog, re.MULTILINE)[1]
    dated = re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", heading)
    notebook = (ROOT / "notebooks/ddpm_flowers.ipynb").read_text(encoding="utf-8")
    named = (
        'REPOSITORY = \\"\\"' not in notebook and "google.com/github/)" not in notebook
    )
    require(named, "the notebook's badge and REPOSITORY name no repository")
    require(dated, f"CHANGELOG.md begins with {heading!r}, not with {version} (a date)")
    passed("checkout")


def build():
    """Build both distributions anew, and check their description."""
    for old in DIST.glob("ddpm_keras-*"):
        old.unlink()
    run(sys.executable, "-m", "build", "--outdir", DIST)
    run(sys.executable, "-m", "twine", "check", "--strict", *DIST.glob("ddpm_keras-*"))
    passed("build")


def check_contents(wheel, archive):
    """Check that the wheel has the package alone, and the archive the repository."""
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    folder = f"ddpm_keras-{ddpm_keras.__version__}"
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ddpm_keras").rglob("*.py")
        if "configs" not in path.parts
    }
    wanted |= {f"ddpm_keras/configs/{p.name}" for p in ROOT.glob("configs/*.yaml")}
    require(wanted <= names, f"the wheel lacks {sorted(wanted - names)}")
    packaged = {name for name in names if not name.startswith(f"{folder}.dist-info/")}
    require(packaged == wanted, f"the wheel has {sorted(packaged - wanted)} as well")
    with tarfile.open(archive) as file:
        names = [name.removeprefix(f"{folder}/") for name in file.getnames()]
    for part in SOURCES:
        require(any(n.startswith(part) for n in names), f"{archive.name} lacks {part}")
    for name in names:
        kept = not name.startswith("runs/") and "node_modules" not in name
        require(kept, f"{archive.name} has {name}")
    passed("contents")


def try_wheel(wheel, python):
    """Install the wheel into a new environment, and run its commands from elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", "venv", cwd=folder)
        bin = Path(folder) / "venv" / "bin"
        run(bin / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
        run(bin / "python", "-m", "pip", "check", cwd=folder)
        weights = next(ROOT.glob("weights/*.safetensors"))
        for command in (
            ("ddpm-train", "--config", "demo", "--dry-run"),
            ("ddpm-sample", "--weights", weights, "--num-images", "1", "--steps", "2"),
            ("ddpm-convert", "--weights", weights, "--out", "w.weights.h5"),
            ("ddpm-evaluate", "--help"),
            ("ddpm-export", "--help"),
        ):
            run(bin / command[0], *command[1:], cwd=folder)
        require((Path(folder) / "grid.png").is_file(), "ddpm-sample wrote no picture")
        version = run(bin / "python", "--version", cwd=folder)
    passed(f"wheel with {version.strip()}")


def run(*command, cwd=ROOT):
    """Run a command and return its output; exit where it fails."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    require(not done.returncode, f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def require(condition, otherwise):
    if not condition:
        sys.exit(f"not ready: {otherwise}")


def passed(step):
    print(f"passed: {step}", flush=True)


if __name__ == "__main__":
    main()
