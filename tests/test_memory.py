"""The memory of the machine, and of a container on it."""

import pytest

from ddpm_keras import memory


@pytest.fixture
def containers(monkeypatch, tmp_path):
    """The folders of two kinds of containers, which have no files yet."""
    kinds = [(tmp_path / name, "limit", "use") for name in "ab"]
    for folder, *_ in kinds:
        folder.mkdir()
    monkeypatch.setattr(memory, "CONTAINERS", kinds)
    return [folder for folder, *_ in kinds]


def test_the_smallest_limit_counts(containers):
    of_machine = memory.total_memory()
    assert of_machine > 2**28
    (containers[0] / "limit").write_text("max\n")
    assert memory.total_memory() == of_machine
    (containers[1] / "limit").write_text("4096\n")
    assert memory.total_memory() == 4096


def test_what_a_container_uses_is_not_free(containers):
    of_machine = memory.free_memory()
    (containers[1] / "limit").write_text("4096\n")
    (containers[1] / "use").write_text("3000\n")
    (containers[1] / "memory.stat").write_text("cache 9\ninactive_file 1000\n")
    assert memory.free_memory() == 2096  # pages of files give way
    (containers[1] / "limit").write_text("1000\n")
    assert memory.free_memory() == 0
    (containers[1] / "limit").write_text("max\n")
    assert memory.free_memory() > of_machine / 2


def test_nobody_may_know(monkeypatch):
    monkeypatch.setattr(memory, "CONTAINERS", ())
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.total_memory() is None
