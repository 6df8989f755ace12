"""Runs that were stopped and went on, beside one that never was."""

import shutil

from safetensors.numpy import load_file

WEIGHTS = ("weights.safetensors", "best.safetensors")


def saved_steps(folder):
    """The steps of a run's checkpoints."""
    found = (folder / "checkpoints").glob("step-*")
    return sorted(int(path.name[5:]) for path in found)


def copied(whole, folder, up_to):
    """A copy of a run as it was when it stopped after the checkpoint of a step."""
    shutil.copytree(whole, folder)
    for step in saved_steps(folder):
        if step > up_to:
            shutil.rmtree(folder / "checkpoints" / f"step-{step:08d}")
    for name in WEIGHTS:
        (folder / name).unlink()
    return folder


def assert_as_whole(folder, whole, samples=True):
    """Every bit of the last state, the log and the samples as in the whole run."""
    assert (folder / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()
    for name in WEIGHTS:
        found, wanted = load_file(folder / name), load_file(whole / name)
        assert {n: a.tobytes() for n, a in found.items()} == {
            n: a.tobytes() for n, a in wanted.items()
        }, name
    last = max(saved_steps(whole))
    assert max(saved_steps(folder)) == last
    name = f"checkpoints/step-{last:08d}/arrays.safetensors"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()
    for path in (whole / "samples").glob("*") if samples else ():
        found = folder / "samples" / path.name
        assert found.read_bytes() == path.read_bytes(), path.name
    assert not list(folder.rglob("*.tmp"))
