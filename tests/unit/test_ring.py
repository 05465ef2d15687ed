"""The ring of records that a killed process leaves behind."""

from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.errors import StorageError
from engine.storage.ring import Ring

SIZE = 200
steps = st.lists(st.one_of(st.binary(min_size=1, max_size=120), st.integers(1, 3), st.none()), max_size=60)


@given(steps)
def test_it_is_a_queue_that_survives(tmp_path_factory: pytest.TempPathFactory, story: list[bytes | int | None]) -> None:
    """bytes: append; a number: drop so many; None: open it again."""
    path = tmp_path_factory.mktemp("ring") / "ring"
    ring = Ring(path, SIZE)
    there: deque[tuple[bytes, int]] = deque()
    for step in story:
        if step is None:
            ring.close()
            ring = Ring(path, SIZE)
            assert list(ring.records()) == [record for record, _ in there]
            assert list(ring.records()) == []
        elif isinstance(step, int):
            for _ in range(min(step, len(there))):
                ring.drop(there.popleft()[1])
        elif ring.append(step):
            there.append((step, ring.end))
        else:
            assert sum(len(record) for record, _ in there) + 2 * (len(step) + 16) + 16 * len(there) > SIZE
    ring.close()


def test_what_is_torn_ends_it_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ring"
    ring = Ring(path, SIZE)
    for record in (b"one", b"two", b"three"):
        assert ring.append(record)
    ring.close()
    assert path.stat().st_mode & 0o777 == 0o600
    data = path.read_bytes()
    assert data.count(b"two") == 1
    path.write_bytes(data.replace(b"two", b"tw?"))
    ring = Ring(path, SIZE)
    assert list(ring.records()) == [b"one"]
    assert [f"{path}: the record at 19 is damaged" in message for message in caplog.messages] == [True]
    assert ring.append(b"four")
    ring.close()
    ring = Ring(path, SIZE)
    assert list(ring.records())[:2] == [b"one", b"four"]
    assert len(caplog.messages) == 1
    ring.close()


def test_a_file_of_zeros_and_one_of_noise_are_empty(tmp_path: Path) -> None:
    for name, data in (("zeros", bytes(5000)), ("noise", bytes(range(256)) * 20), ("ones", b"\xff" * 5000)):
        (tmp_path / name).write_bytes(data)
        ring = Ring(tmp_path / name, SIZE)
        assert list(ring.records()) == []
        assert ring.append(b"one") and (ring.append(b"x" * (SIZE - 50)) or name == "noise")
        ring.close()


def test_a_path_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "ring")
    for path in (tmp_path / "link", tmp_path / "no" / "ring", tmp_path):
        with pytest.raises(StorageError):
            Ring(path, SIZE)
