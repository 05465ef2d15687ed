"""Key files: made once, for us alone, and read with a clear word about what is wrong."""

import os
import threading
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.storage.secrets import read_keys


def test_a_key_is_made_once_and_stays(tmp_path):
    path = tmp_path / "return-path.keys"
    found: list[dict[int, bytes]] = []
    threads = [threading.Thread(target=lambda: found.append(read_keys(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = read_keys(path)
    assert found == [first] * 8 and list(first) == [1] and len(first[1]) == 32
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_newest_stands_on_top(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# rotated in May\n7 {'ab' * 32}\n\n3 {'cd' * 16}\n")
    path.chmod(0o600)
    assert list(read_keys(path).items()) == [(7, b"\xab" * 32), (3, b"\xcd" * 16)]


@pytest.mark.parametrize(
    "text", ["1 abc", "256 " + "ab" * 32, "x " + "ab" * 32, f"1 {'ab' * 32}\n1 {'cd' * 32}", "1 " + "ab" * 15, "1", "é"]
)
def test_what_is_no_key_is_named_by_its_line(tmp_path, text):
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(StorageError, match="keys"):
        read_keys(path)


def test_a_file_that_others_can_read_is_not_believed_nor_is_a_link_or_an_empty_one(tmp_path):
    path = tmp_path / "keys"
    read_keys(path)
    path.chmod(0o640)
    with pytest.raises(StorageError, match="0600"):
        read_keys(path)
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(StorageError, match="link"):
        read_keys(link)
    path.write_text("# nothing\n")
    with pytest.raises(StorageError, match="no key"):
        read_keys(path)


def test_a_key_of_an_older_form_is_read_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`suppression.key` of before: 32 bytes, whatever they are, and whoever may read them."""
    path = tmp_path / "keys"
    for key in (bytes(range(32)), b"\xff" * 32, b"1 " + b"ab" * 14 + b"\0\n"):
        path.write_bytes(key)
        path.chmod(0o600)
        assert read_keys(path) == {1: key}
    assert not caplog.text
    path.chmod(0o644)
    assert read_keys(path) == {1: key} and "can be read by others" in caplog.text
