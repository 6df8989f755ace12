"""Files that appear whole or not at all."""

import os
import stat

import pytest

from ddpm_keras.files import can_be_written, set_aside, written_whole


def test_file_is_there_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "a.txt"
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_old_file_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("something old and longer")
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "something old and longer"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made(tmp_path):
    path = tmp_path / "b" / "c" / "a.txt"
    with written_whole(str(path)) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_temporary_file_is_in_a_hidden_folder_of_this_user_beside_the_file(tmp_path):
    # Only within a file system is a replacement one step.
    with written_whole(tmp_path / "a.png") as temporary:
        temporary.touch()
        folder = temporary.parent
        assert folder.parent == tmp_path and folder.name.startswith(".a.png.")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with written_whole(tmp_path / "a.png") as another:
            another.touch()
            assert another.parent != folder


def test_links_in_a_shared_folder_are_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    for name in (".a.png.tmp", f".a.png.{os.getpid()}.tmp", "a.png"):
        link = tmp_path / name
        link.symlink_to(mine)
    with written_whole(tmp_path / "a.png") as temporary:
        temporary.write_text("new")
    assert mine.read_text() == "precious"
    assert (tmp_path / "a.png").read_text() == "new"


def test_rights_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), written_whole(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_no_new_file(tmp_path):
    with pytest.raises(OSError), written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("half of the n")
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []


def test_failure_of_the_replacement_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError), written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_nothing_that_was_set_aside_is_replaced(tmp_path):
    for text in ("one", "two", "three"):
        (tmp_path / "log.csv").write_text(text)
        aside = set_aside(tmp_path / "log.csv")
        assert aside.read_text() == text and not (tmp_path / "log.csv").exists()
        if text == "two":
            (tmp_path / "log.csv.bad").unlink()
    assert (tmp_path / "log.csv.bad1").read_text() == "two"
    assert (tmp_path / "log.csv.bad").read_text() == "three"


def test_place_that_can_be_written_is_reported(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "file").touch()
    # As of a user who may write to the folder "open" alone; root may everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: path.name == "open")
    for place in ("open", "open/new", "open/new/file.png"):
        assert can_be_written(tmp_path / place)
    for place in ("closed", "closed/new", "new", "file", "file/new", "/"):
        assert not can_be_written(tmp_path / place)
