"""Key files: made once, for us alone, and read with a clear word about what is wrong."""

import os
import threading

import pytest

from engine.base.errors import StorageError
from engine.storage.secrets import read_keys


def test_a_key_is_made_once_and_stays(tmp_path):
    path = tmp_path / "return-path.keys"
    found: list[dict[int, bytes]] = []
    threads = [threading.Thread(target=lambda: found.append(read_keys(path))) for _ in range(8)]
    # The name of the temporary file is that of a process: threads of one would meet.
    first = read_keys(path)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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
