"""Below which free space, inodes and memory nothing more is accepted; and taken again by itself."""

from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.storage.spool import guards as guards_module
from engine.storage.spool.files import DiskFiles, Room
from engine.storage.spool.guards import Guards


class Disk(DiskFiles):
    left = (1.0, 1.0)
    total = 100_000_000_000

    def room(self, path: Path) -> Room:
        return Room(round(self.left[0] * self.total), self.total, self.left[1])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file like that of /proc, to be written by a test: 100 pages in use."""
    (tmp_path / "statm").write_text("5000 100 30 1 0 200 0\n")
    monkeypatch.setattr(guards_module, "_STATUS", tmp_path / "statm")
    return tmp_path


def test_what_is_short_is_said_and_forgotten_when_there_is_room(tmp_path: Path, machine: Path) -> None:
    disk, limits = Disk(), SpoolSettings(min_free=0.1, memory_guard=1.0)
    guards = Guards(tmp_path, disk)
    for left, trouble in [
        ((0.5, 0.5), None),
        ((0.05, 0.5), "5% of the disk is free"),
        ((0.5, 0.01), "1% of the inodes are free"),
        ((0.1, 0.1), None),
    ]:
        disk.left = left
        guards.measure(limits)
        expected = trouble and f"452 4.3.1 Insufficient system storage ({trouble})"
        assert guards.refusal == expected
    disk.left = (0.0, 0.0)
    guards.measure(SpoolSettings(min_free=0.0, memory_guard=1.0))
    assert guards.refusal is None, "0 turns it off"


def test_memory_is_counted_against_the_setting(tmp_path: Path, machine: Path) -> None:
    guards = Guards(tmp_path, Disk())
    used = 100 * 4096
    guards.measure(SpoolSettings(max_memory=Size(used * 2), memory_guard=0.5))
    assert guards.refusal is None
    guards.measure(SpoolSettings(max_memory=Size(used * 2 - 4), memory_guard=0.5))
    assert guards.refusal is not None and guards.refusal.startswith("452 4.3.1 Insufficient system memory (0 MiB")
    (machine / "statm").write_text("5000 90 30 1 0 200 0\n")
    guards.measure(SpoolSettings(max_memory=Size(used * 2 - 4), memory_guard=0.5))
    assert guards.refusal is None
    guards.measure(SpoolSettings(max_memory=Size(1), memory_guard=0.0))
    assert guards.refusal is None, "0 turns it off"


def test_a_disk_that_cannot_be_looked_at_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot look at the disk"):
        Guards(tmp_path / "gone", DiskFiles()).measure(SpoolSettings())


def test_memory_that_cannot_be_read_is_an_error_and_no_answer(tmp_path: Path, machine: Path) -> None:
    """As without a free descriptor: what was known stays."""
    guards = Guards(tmp_path, Disk())
    (machine / "statm").unlink()
    with pytest.raises(StorageError, match="statm"):
        guards.measure(SpoolSettings(memory_guard=0.5))
    assert guards.failure is None


def test_free_space_is_looked_at_after_a_part_of_what_is_left_was_written(tmp_path: Path) -> None:
    """However much there is, after 4 MiB; nothing more than a sum until then."""
    disk = Disk()
    disk.total = 100 << 20
    guards = Guards(tmp_path, disk)
    disk.left = (0.5, 1.0)
    guards.measure(SpoolSettings(min_free=0.1, memory_guard=0.0))
    disk.left = (0.05, 1.0)
    guards.wrote((4 << 20) - 1)
    assert guards.failure is None
    guards.wrote(1)
    assert guards.failure is not None
    with pytest.raises(StorageError, match="5% of the disk"):
        guards.spend(1)
    disk.left = (0.18, 1.0)
    guards.measure(SpoolSettings(min_free=0.1, memory_guard=0.0))
    disk.left = (0.05, 1.0)
    guards.spend(1 << 19)
    with pytest.raises(StorageError):
        guards.spend(1 << 19)


def test_without_its_reserve_nothing_is_accepted(tmp_path: Path) -> None:
    """Or the room that it gave would go to new messages, and not to what makes more."""
    disk, limits = Disk(), SpoolSettings(min_free=0.001, memory_guard=0.0, segment_bytes=Size(1 << 20))
    disk.total = 100 << 20
    guards = Guards(tmp_path, disk)
    guards.measure(limits)
    assert guards.failure is None and (tmp_path / "reserve").stat().st_size == 1 << 20
    guards.measure(limits, failing=True)
    assert not (tmp_path / "reserve").exists()
    disk.left = (0.015, 1.0)
    guards.measure(limits)
    assert guards.refusal == "452 4.3.1 Insufficient system storage (no room for the reserve)"
    assert not (tmp_path / "reserve").exists(), "it would take what is left"
    disk.left = (0.02, 1.0)
    guards.measure(limits)
    assert guards.failure is None and (tmp_path / "reserve").exists()
