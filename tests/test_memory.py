"""The memory of the machine, and of a container on it."""

from ddpm_keras import memory


def test_the_smallest_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (tmp_path / "a", tmp_path / "b"))
    of_machine = memory.total_memory()
    assert of_machine > 2**28
    (tmp_path / "a").write_text("max\n")
    assert memory.total_memory() == of_machine
    (tmp_path / "b").write_text("4096\n")
    assert memory.total_memory() == memory.free_memory() == 4096


def test_nobody_may_know(monkeypatch):
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", ())
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.total_memory() is None
