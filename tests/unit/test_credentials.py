"""The credential table and its command: hashes only, mode 0600, changes seen by a running daemon."""

import asyncio
import io
import json
import sqlite3
from pathlib import Path

import pytest

from engine.base.errors import EngineError, StorageError
from engine.cli.main import main
from engine.storage.tables.credentials import CredentialError, Credentials


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tables.db"


def verify(table: Credentials, login: str, password: str) -> bool:
    return asyncio.run(table.verify(login, password))


def test_password_is_verified_and_not_stored(path: Path) -> None:
    table = Credentials(path)
    assert not table.add("ada", "pässword")
    assert verify(table, "ada", "pässword")
    assert verify(table, "ada", "pässword")
    assert not verify(table, "ada", "password")
    assert not verify(table, "Ada", "pässword")
    assert not verify(table, "bob", "pässword")
    assert not verify(table, "", "")
    table.close()
    everything = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"$argon2id$" in everything
    assert "pässword".encode() not in everything


def test_file_is_for_the_owner_only(path: Path) -> None:
    Credentials(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_changes_by_another_process_are_seen(path: Path) -> None:
    """Also those that take away what was verified a moment ago."""
    daemon, command = Credentials(path), Credentials(path)
    assert not verify(daemon, "ada", "one")
    command.add("ada", "one")
    assert verify(daemon, "ada", "one")
    command.add("ada", "two")
    assert not verify(daemon, "ada", "one")
    assert verify(daemon, "ada", "two")
    assert command.remove("ada")
    assert not verify(daemon, "ada", "two")
    daemon.close()
    command.close()


def test_known_password_costs_no_hash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Credentials(path)
    table.add("ada", "one")
    assert verify(table, "ada", "one")
    monkeypatch.setattr(table, "_hasher", None)
    assert verify(table, "ada", "one")
    with pytest.raises(AttributeError):
        verify(table, "ada", "two")
    table.close()


def test_login_nobody_has_costs_a_hash_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Credentials(path)
    monkeypatch.setattr(table, "_hasher", None)
    with pytest.raises(AttributeError):
        verify(table, "nobody", "x")
    table.close()


@pytest.mark.parametrize("login", ["", " ada", "a\nb", "a\0", "x" * 256])
def test_unusable_login_is_an_error(path: Path, login: str) -> None:
    table = Credentials(path)
    with pytest.raises(CredentialError):
        table.add(login, "password")
    with pytest.raises(CredentialError):
        table.add("ada", "")
    table.close()


def test_long_guesses_cost_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Credentials(path)
    monkeypatch.setattr(table, "_hasher", None)
    assert not verify(table, "ada", "x" * 100_000)
    assert not verify(table, "x" * 100_000, "x")
    table.close()


def test_broken_hash_is_a_wrong_password(path: Path) -> None:
    table = Credentials(path)
    table.add("ada", "one")
    with sqlite3.connect(path) as other:
        other.execute("update credentials set hash = 'rubbish'")
    other.close()
    assert not verify(table, "ada", "one")
    table.close()


def test_table_that_is_no_database_is_a_storage_error(path: Path) -> None:
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(StorageError):
        Credentials(path)


def test_symbolic_link_is_not_followed(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")
    with pytest.raises(StorageError):
        Credentials(path)


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "postrider.toml"
    file.write_text('[node]\nname = "mx.example"\ndata_dir = "data"\n')
    return str(file)


def test_command_adds_lists_and_removes(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for expected in ("added", "password changed"):
        monkeypatch.setattr("sys.stdin", io.StringIO("secret\nignored\n"))
        assert main(["credential", "add", "ada", "--password-stdin", "--note", "Countess", "-c", config]) == 0
        assert capsys.readouterr().out == f"ada: {expected}\n"
    table = Credentials(tmp_path / "data" / "tables.db")
    assert verify(table, "ada", "secret")
    table.close()
    assert main(["credential", "list", "--json", "-c", config]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["login"], row["note"]) == ("ada", "Countess")
    assert main(["credential", "remove", "ada", "-c", config]) == 0
    assert main(["credential", "remove", "ada", "-c", config]) == 1
    assert "no such login" in capsys.readouterr().err


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)


@pytest.mark.usefixtures("terminal")
def test_command_asks_for_the_password_twice(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["one", "two"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert main(["credential", "add", "ada", "-c", config]) == 1
    assert "differ" in capsys.readouterr().err


@pytest.mark.parametrize("ends", ["", "\n", "\nsecret\n"])
def test_command_refuses_a_missing_password_on_stdin(
    ends: str, config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(ends))
    assert main(["credential", "add", "ada", "--password-stdin", "-c", config]) == 1
    assert "no password on stdin" in capsys.readouterr().err


def test_command_does_not_ask_without_a_terminal(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    assert main(["credential", "add", "ada", "-c", config]) == 1
    assert "--password-stdin reads it" in capsys.readouterr().err


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("typed", [[], ["one"], ["", ""]])
def test_command_refuses_the_end_of_input_at_the_prompt(
    typed: list[str], config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(typed)

    def getpass(prompt: str) -> str:
        for answer in answers:
            return answer
        raise EOFError

    monkeypatch.setattr("getpass.getpass", getpass)
    assert main(["credential", "add", "ada", "-c", config]) == 1
    assert "no password given" in capsys.readouterr().err


def test_errors_of_the_table_are_engine_errors() -> None:
    assert issubclass(CredentialError, EngineError)
