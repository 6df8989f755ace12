"""Commands and links in the documents are valid, and most of the commands run."""

import contextlib
import io
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from ddpm_keras.data.flowers import draw_flowers

ROOT = Path(__file__).parents[1]
NAMES = ("*.md", "docs/*.md", "weights/*.md")
DOCUMENTS = [path for name in NAMES for path in ROOT.glob(name)]
TEXTS = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in DOCUMENTS}


def blocks(text, language=""):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands(text):
    """Return the command lines, without comments; joins lines at a backslash."""
    joined = "".join(blocks(text)).replace("\\\n", " ")
    lines = [line.partition(" #")[0] for line in joined.splitlines() if line]
    return [" ".join(line.split()) for line in lines]


def inline_commands(text):
    """Return the commands within sentences and tables."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`(python [^`]+)`", prose)]


ALL_COMMANDS = sorted(
    {line for t in TEXTS.values() for line in commands(t) + inline_commands(t)}
)


@pytest.fixture(scope="module")
def flags():
    """The words in the `--help` of each script that is named."""
    scripts = {w for line in ALL_COMMANDS for w in line.split() if w.endswith(".py")}
    return {s: help_of(s) for s in scripts if not s.startswith("tests/")}


def help_of(script):
    """What a script prints for `--help`, in this process, which has loaded Keras."""
    output = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        mock.patch.dict(os.environ),  # benchmarks choose their backend there
        contextlib.redirect_stdout(output),
        pytest.raises(SystemExit) as ended,
    ):
        patch.setattr(sys, "argv", [script, "--help"])
        patch.syspath_prepend((ROOT / script).parent)
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert not ended.value.code
    return output.getvalue()


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_commands_name_what_is_there(command, flags):
    words = command.split()
    if "make" in words:
        target = words[words.index("make") + 1]
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert f"\n{target}:" in makefile
    for place, word in enumerate(words):
        if word.endswith(".yaml"):
            assert (ROOT / word).is_file()
        if word in flags:
            given = [w for w in words[place + 1 :] if w.startswith("--")]
            for flag in given:
                assert re.search(rf"{flag}\b", flags[word]), flag
            usage = flags[word].partition("\n\n")[0]
            for _ in range(2):  # brackets within brackets
                usage = re.sub(r"\[[^][]*\]", "", usage)
            assert set(re.findall(r"--[\w-]+", usage)) <= set(given)


@pytest.mark.parametrize("document", TEXTS)
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#:]+)\)", TEXTS[document])
    folder = (ROOT / document).parent
    assert [link for link in links if not (folder / link).exists()] == []


# In this order: later ones use `runs/demo/001` and files that earlier ones make.
RUN = (
    *("README.md", "docs/sampling.md", "docs/training.md", "docs/export.md"),
    *("docs/measures.md", "weights/flowers32.md", "weights/flowers64.md"),
    "docs/protocol.md",
)
# Commands that take hours: stopped by Ctrl-C once this text shows that they work.
STOPPED = {
    "scripts/train.py --run-dir": "resumed: after step",
    "scripts/train.py": "training: ",
    "ddpm-train": "training: ",
    "scripts/sample.py --weights checkpoints/": "of 1,000 steps",
    "make web": "http://127.0.0.1",
}
SKIPPED = (
    "make test",  # which this is part of
    "studies/",  # hours
    "NUM_PROCESSES=2",  # waits for a second host
    *("curl ", "unzip "),  # 250 MB, in whose place `make_inputs` puts weights
)


@pytest.mark.slow
def test_commands_of_the_documents_run_in_order(tmp_path):
    """In a copy, each as printed; takes an hour, mostly for 2,048 samples at a time.

    Needs Oxford Flowers, or TFDS_DATA_DIR with them; npm; and the packages of `judge`.
    """
    ignored = shutil.ignore_patterns(".venv", ".git", "runs", "*.egg-info")
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=ignored)
    make_inputs(copy)
    texts = [TEXTS[name] for name in RUN]
    # Without repetitions, which would refuse to overwrite their files.
    for command in dict.fromkeys(line for text in texts for line in commands(text)):
        if any(part in command for part in SKIPPED):
            continue
        marker = next((m for part, m in STOPPED.items() if part in command), None)
        status, output = run(command, copy, marker)
        # make dies of Ctrl-C.
        expected = {130, -signal.SIGINT} if marker else {0}
        assert status in expected, f"{command}\n{output}"
    for code in (code for text in texts for code in blocks(text, "python")):
        (copy / "block.py").write_text(code)
        status, output = run("python block.py", copy)
        assert status == 0, f"{code}\n{output}"
    for name in ("grid.png", "ddpm.png", "dpmpp.png", "flowers64.safetensors"):
        assert (copy / name).is_file()


def run(command, folder, marker=None):
    """Run a command, interrupt it at the marker; return its status and output."""
    print("$", command, flush=True)
    path = folder / "output"
    here = {"PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"}
    with path.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}" if marker else command],
            cwd=folder,
            env=os.environ | here,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches all processes of a terminal
        )
    ends = time.monotonic() + 600
    while marker and process.poll() is None:
        if marker in path.read_text() or time.monotonic() > ends:
            os.killpg(process.pid, signal.SIGINT)
            break
        time.sleep(1)
    return process.wait(), path.read_text()


def make_inputs(folder):
    """Make a reader's own photos, Keras 2 weights, and another program's samples."""
    from keras2_recipe import Keras2DiffusionModel, build_keras2_unet

    for number, pixels in enumerate(draw_flowers(40, 70)):
        path = folder / "photos" / ["rose", "daisy"][number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels)).save(path)
    model = Keras2DiffusionModel(build_keras2_unet(64), build_keras2_unet(64))
    model.save_weights(str(folder / "checkpoints" / "diffusion_model_checkpoint"))
    theirs = {"images": draw_flowers(64, 64), "labels": np.arange(64)}
    np.savez(folder / "theirs.npz", **theirs)


def test_faults_name_tests_that_are_there():
    named = set(re.findall(r"`(test_\w+\.py)`", TEXTS["docs/faults.md"]))
    assert len(named) > 20
    assert named <= {path.name for path in Path(__file__).parent.iterdir()}
