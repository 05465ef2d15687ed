"""What `DiskFiles` promises of names: durable when a call returned, also when an earlier try did only half of it."""

import os
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.storage.spool import files
from engine.storage.spool.files import DiskFiles


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories in the order in which they were synced; the first sync fails."""
    done: list[Path] = []

    def sync(path: Path) -> None:
        done.append(path)
        if len(done) == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "sync_directory", sync)
    return done


def test_a_directory_that_is_there_is_synced_by_the_next_try(tmp_path: Path, synced: list[Path]) -> None:
    with pytest.raises(StorageError, match="Input/output error"):
        DiskFiles().make_directory(tmp_path / "new")
    DiskFiles().make_directory(tmp_path / "new")
    assert synced == [tmp_path, tmp_path]


def test_a_removal_is_made_durable_by_the_next_try(tmp_path: Path, synced: list[Path]) -> None:
    (tmp_path / "old").touch()
    with pytest.raises(StorageError):
        DiskFiles().unlink(tmp_path / "old")
    DiskFiles().unlink(tmp_path / "old")
    assert synced == [tmp_path, tmp_path]


def test_a_file_created_in_vain_leaves_neither_name_nor_descriptor(tmp_path: Path, synced: list[Path]) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StorageError):
        DiskFiles().create(tmp_path / "new")
    assert os.listdir("/proc/self/fd") == before
    assert os.listdir(tmp_path) == []


def test_a_directory_that_is_gone_is_removed(tmp_path: Path) -> None:
    DiskFiles().remove_directory(tmp_path / "gone")


@pytest.mark.parametrize("there", ["link", "file"])
def test_a_directory_is_no_link_and_no_file(tmp_path: Path, there: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    if there == "link":
        (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "new").touch()
    with pytest.raises(StorageError, match="something else is there"):
        DiskFiles().make_directory(tmp_path / "new")
