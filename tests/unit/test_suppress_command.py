"""`postrider suppress`: adding, finding, removing, erasing; files in and out, and what is wrong in them."""

import csv
import io
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.cli import suppress
from engine.cli.main import main
from engine.cli.suppress_files import MAX_LINE, Reader
from engine.storage.tables.suppression import Cause, Hasher, Suppression
from engine.storage.tables.suppression_records import FIELDS, from_record, to_record
from engine.storage.tables.suppression_table import SuppressionTable

ADA = "ada@example.org"


class Shell:
    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys
        (path / "providers.toml").write_text("")
        self.config = path / "postrider.toml"
        self.config.write_text("[node]\ndata_dir = 'data'\n")

    def run(self, *argv: str, status: int = 0) -> str:
        self._capsys.readouterr()
        assert main(["suppress", *argv, "-c", str(self.config)]) == status
        self.out, self.err = self._capsys.readouterr()
        return self.out

    def rows(self, *argv: str, status: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*argv, "--json", status=status).splitlines()]

    def file(self, text: str | bytes, name: str = "list") -> str:
        path = self.path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def events(self) -> list[tuple[str, str]]:
        table = SuppressionTable(self.path / "data")
        try:
            return [(recipient, text) for _, _, recipient, text in table.owed_events()]
        finally:
            table.close()


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("SUDO_USER", "bob")
    return Shell(tmp_path, capsys)


def test_add_find_remove(shell: Shell) -> None:
    shell.run("add", "Ada@EXAMPLE.org", "+447700900123", "--evidence", "asked by letter")
    assert "already" in shell.run("add", ADA)
    shell.run("add", ADA, "--tenant", "shop", "--stream", "news", "--cause", "complaint", "--until", "90d")
    [everything, stream] = shell.rows("find", ADA)
    assert (everything["scope"], everything["cause"], everything["who"]) == ("global", "manual", "bob")
    assert (everything["evidence"], everything["until"], everything["address"]) == ("asked by letter", "", ADA)
    assert (stream["scope"], stream["tenant"], stream["stream"]) == ("stream", "shop", "news") and stream["until"]
    assert ADA in shell.run("find", ADA)
    [phone] = shell.rows("find", "447700900123")
    assert (phone["channel"], phone["address"]) == ("sms", "447700900123")

    shell.run("remove", ADA, "--reason", "was a mistake", "--tenant", "shop", "--stream", "news")
    assert len(shell.rows("find", ADA)) == 1
    shell.run("remove", ADA, "nobody@example.org", "--reason", "was a mistake", status=1)
    assert "nobody@example.org is not suppressed" in shell.err
    assert shell.rows("find", ADA, status=1) == []
    assert "not suppressed" in shell.run("find", ADA, status=1)
    history = shell.rows("find", ADA, "--history", status=1)
    assert [row["lifted"] for row in history] == [False, False, True, True]
    assert history[-1]["evidence"] == "was a mistake"
    assert shell.events() == [
        (ADA, "suppressed (everything): manual, by bob: asked by letter"),
        ("447700900123", "suppressed (everything): manual, by bob: asked by letter"),
        (ADA, "suppressed (tenant shop, stream news): complaint, by bob"),
        (ADA, "suppression removed (tenant shop, stream news), by bob: was a mistake"),
        (ADA, "suppression removed (everything), by bob: was a mistake"),
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ("add", "nobody"),
        ("add", "a b@example.org"),
        ("add", "07700900123"),
        ("add", "5"),
        ("add", "+44770"),
        ("add", "1" * 16),
        ("add", "a@-"),
        ("add", ADA, "--until", "2001-01-01"),
        ("add", ADA, "--until", "soon"),
        ("add", ADA, "--cause", "whim"),
        ("add", ADA, "--cause", "erased"),
        ("add", ADA, "--tenant", "x" * 256),
        ("add", "447700900123", "--tenant", "shop", "--stream", "acme"),
        ("find", "nobody"),
        ("remove", ADA, "--reason", " "),
        ("import", "-", "--cause", "whim"),
        ("export", "-", "--cause", "whim"),
    ],
)
def test_what_cannot_be_meant_is_said_and_changes_nothing(shell: Shell, argv: tuple[str, ...]) -> None:
    shell.run(*argv, status=2)
    assert shell.err.startswith("postrider: ")
    assert shell.rows("export", "-") == []


def test_a_domain_is_no_address_and_no_route(shell: Shell) -> None:
    shell.run("add", "@far.test", status=2)
    assert 'nothing stands before the "@"; the list is of addresses, not of domains' in shell.err
    assert shell.rows("export", "-") == []


def test_who_is_erased_stays_suppressed_and_is_named_nowhere(shell: Shell) -> None:
    shell.run("add", ADA, "--tenant", "shop")
    shell.run("erase", "ADA@example.org")
    [row] = shell.rows("find", ADA)
    assert (row["address"], row["cause"], row["scope"]) == ("", "erased", "global") and len(row["hash"]) == 16
    exported = str(shell.path / "out.csv")
    shell.run("export", exported)
    assert "ada@" not in Path(exported).read_text()
    shell.run("remove", ADA, "--reason", "came back")
    assert not any("ada@" in text + recipient for recipient, text in shell.events())
    assert json.loads(shell.run("import", exported, "--json")) == {"added": 1, "already": 0, "bad": 0}
    assert len(shell.rows("find", ADA)) == 1
    (shell.path / "data" / "suppression.key").unlink()
    (shell.path / "data" / "suppression.db").unlink()
    shell.run("import", exported, status=1)
    assert "another suppression.key" in shell.err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_is_exported_is_imported_the_same(shell: Shell, options: tuple[str, ...]) -> None:
    shell.run("add", ADA, '"odd, one"@example.org', "ünï@bücher.example", "--evidence", 'said "no", twice')
    shell.run(
        "add", ADA, "--tenant", "a,b", "--stream", "ü", "--until", "2100-01-02T03:04:05Z", "--cause", "unsubscribe"
    )
    shell.run("add", "+447700900123", "--stream", "ACME", "--cause", "stop")
    exported = str(shell.path / "out")
    shell.run("export", exported, *options)
    assert "5 suppressions" in shell.out and Path(exported).stat().st_mode & 0o777 == 0o600
    first = shell.rows("export", "-")
    for file in (shell.path / "data").iterdir():
        file.unlink()
    shell.run("import", exported)
    again = sorted(shell.rows("export", "-"), key=str)
    assert again == sorted(first, key=str) and len(again) == 5
    shell.run("export", exported, status=1)  # never over another file
    assert [row["cause"] for row in shell.rows("export", "-", "--channel", "sms")] == ["stop"]
    assert len(shell.rows("export", "-", "--cause", "unsubscribe")) == 1


def test_bad_lines_are_named_and_kept_and_take_no_other_with_them(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppress, "_BATCH_ROWS", 2)
    lines = [
        b"\xef\xbb\xbfEmail,reason,colour",
        b"a@x.org,asked,red",
        b'b@x.org,"an open quote',
        b"c@x.org,asked,red,too many",
        b"",
        b"d@x.org",
        b"nobody,asked",
        b"e\xff@x.org",
        b"f@x.org," + b"x" * MAX_LINE,
        b"a@x.org,again",
        b"g\0@x.org",
        b"h@x.org,last, without an end",
    ]
    rejected = shell.path / "rejected"
    shell.run("import", shell.file(b"\r\n".join(lines)), "--rejected", str(rejected), status=1)
    assert "3 suppressed, 1 already; 6 bad lines" in shell.out
    assert [line.split(":")[1] for line in shell.err.splitlines()[:-1]] == ["3", "4", "7", "8", "9", "11"]
    assert shell.err.splitlines()[4].endswith(f"longer than {MAX_LINE} bytes, and cut there")
    assert "colour" in shell.err.splitlines()[-1]
    assert sorted(row["address"] for row in shell.rows("export", "-")) == ["a@x.org", "d@x.org", "h@x.org"]
    assert shell.rows("find", "a@x.org")[0]["evidence"] == "asked"
    kept = rejected.read_bytes().splitlines()
    assert kept[0] == lines[2] and kept[3] == lines[7] and len(kept) == 6
    told = f"suppressions imported from {shell.path / 'list'}, lines"
    assert shell.events() == [("", f"{told} 2 to 6, by bob"), ("", f"{told} 10 to 12, by bob")]


def test_json_lines_and_their_faults(shell: Shell) -> None:
    good = {"address": ADA, "cause": "complaint", "tenant": "shop", "since": "2026-01-02"}
    lines = [json.dumps(good), '{"address": 5}', "[1]", "{", '{"email": "b@x.org", "more": {"deep": []}}', "[" * 9000]
    bad = [{"address": "c@x.org", name: value} for name, value in (
        ("cause", "whim"), ("until", "2001-01-01"), ("since", "9" * 50), ("channel", "sms"), ("hash", 7),
    )]  # fmt: skip
    bad += [{"hash": "x", "key": "y"}, {"hash": "f" * 16}, {"channel": "pigeon", "hash": "0" * 16}, {}]
    text = "\n".join(lines + [json.dumps(one) for one in bad])
    shell.run("import", shell.file(text), "--stream", "news", "--cause", "unsubscribe", status=1)
    assert f"2 suppressed, 0 already; {len(bad) + 4} bad lines" in shell.out
    [ada] = shell.rows("find", ADA)
    assert (ada["scope"], ada["cause"], ada["since"]) == ("tenant", "complaint", "2026-01-02T00:00:00Z")
    [other] = shell.rows("find", "b@x.org")
    assert (other["scope"], other["stream"], other["cause"]) == ("stream", "news", "unsubscribe")


def test_a_plain_list_and_other_separators(shell: Shell) -> None:
    shell.run("import", shell.file("a@x.org\n\n+447700900123\nb@x.org\n"))
    shell.run("import", shell.file("name;address\nAda;c@x.org\n"))
    assert len(shell.rows("export", "-")) == 4
    shell.run("import", shell.file("name,city\nAda,Paris\n"), status=1)
    assert "without a column" in shell.err
    shell.run("import", str(shell.path / "none"), status=1)


@pytest.mark.parametrize("seed", range(20))
def test_a_file_that_is_no_list_suppresses_nobody(shell: Shell, seed: int) -> None:
    """Whatever its bytes look like: each line is named, and nothing is guessed."""
    data = random.Random(seed).randbytes(20_000)
    shell.run("import", shell.file(data), status=1)
    assert "import: 0 suppressed" in shell.out
    assert shell.rows("export", "-") == []
    shell.run("import", shell.file("5\n12345,x\na@x.org,b@x.org\n447700900123\n"), status=1)
    assert [line.split(":")[1] for line in shell.err.splitlines()] == ["1", "2", "3"]
    assert [row["address"] for row in shell.rows("export", "-")] == ["447700900123"]


def test_very_many_bad_lines_are_counted_and_not_all_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppress, "_MOST_SHOWN", 3)
    shell.run("import", shell.file("x\n" * 10), status=1)
    assert len(shell.err.splitlines()) == 4 and "7 more bad lines" in shell.err
    assert "10 bad lines" in shell.out


def test_a_short_code_that_answered_comes_back_from_an_export(shell: Shell) -> None:
    (shell.path / "data").mkdir()
    table = SuppressionTable(shell.path / "data")
    row = Suppression(address="83344", channel="sms", cause=Cause.STOP, since=1e9)
    table.add([row], (1e9, "", "told"))
    table.close()
    exported = str(shell.path / "out")
    shell.run("export", exported)
    (shell.path / "data" / "suppression.db").unlink()
    assert json.loads(shell.run("import", exported, "--json")) == {"added": 1, "already": 0, "bad": 0}


def test_an_export_goes_where_it_can_be_written(shell: Shell, tmp_path: Path) -> None:
    """To standard output by any of its names, into a pipe, and over no file."""
    shell.run("add", ADA)
    assert ADA in shell.run("export", "/dev/stdout") and "1 suppression" in shell.err
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.append(pipe.read_text()))
    thread.start()
    shell.run("export", str(pipe))
    thread.join()
    assert ADA in read[0]
    command = [sys.executable, "-m", "engine.cli.main", "suppress", "export", "/dev/stdout", "-c", str(shell.config)]
    for stdout in (tmp_path / "into", tmp_path / "again"):
        with stdout.open("w") as file:
            subprocess.run(command, stdout=file, check=True)
        assert ADA in stdout.read_text()
    shell.run("export", str(tmp_path / "into"), status=1)
    assert "File exists" in shell.err


def test_an_empty_list_exports_a_header_only(shell: Shell) -> None:
    assert [list(row)[:2] for row in csv.reader(shell.run("export", "-").splitlines())] == [["address", "channel"]]


@given(st.binary(max_size=300), st.sampled_from([b"", b"address,evidence\n", b'{"address": "a@x.org"}\n']))
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_P1_any_bytes_are_lines_or_faults(data: bytes, head: bytes) -> None:
    """Each line is told of once, in order."""
    lines = list(Reader(io.BytesIO(head + data)))
    numbers = [line.number for line in lines]
    assert numbers == sorted(set(numbers))
    assert all((line.record is None) == bool(line.why) for line in lines)


_VALUES = st.one_of(
    st.text(max_size=30), st.none(), st.integers(), st.lists(st.text(), max_size=2),
    st.sampled_from(["a@x.org", "+447700900123", "2026-01-02", "90d", "0" * 16, "stop", "sms", "é@bücher.example"]),
)  # fmt: skip


_ADDRESSES = st.sampled_from(["A@x.org", "+447700900123", "é@bücher.example", '"a b"@x.org', ""])


@given(
    st.fixed_dictionaries(
        {"address": _ADDRESSES | _VALUES},
        optional={
            name: _VALUES for name in ("tenant", "stream", "evidence", "message", "who", "since", "until", "more")
        },
    )
    | st.dictionaries(st.sampled_from(FIELDS), _VALUES)
)
@hypothesis_settings(deadline=None)
def test_P1_any_record_is_a_row_that_reads_back_the_same_or_a_fault(record: dict[str, Any]) -> None:
    hasher = Hasher(b"k" * 32)
    try:
        row = from_record(record, hasher, 1e9, "bob")
    except ValueError:
        return
    written = to_record(row, hasher)
    again = from_record(written, hasher, 1e9, "bob")
    assert to_record(again, hasher) == written


def test_an_import_adds_nothing_of_who_was_erased_and_says_so_of_each_line(shell: Shell) -> None:
    shell.run("erase", ADA)
    path = shell.file(f"address,tenant\n{ADA},shop\nbob@example.org,shop\n{ADA},\n")
    assert shell.run("import", path, "--tenant", "bank") == "import: 1 suppressed, 2 already; 0 bad lines\n"
    assert shell.err == "".join(f"{path}:{line}: was erased: suppressed by the hash\n" for line in (2, 4))
    assert [(row["scope"], row["cause"], row["address"]) for row in shell.rows("find", ADA, "--history")] == [
        ("global", "erased", "")
    ]
    assert shell.run("add", ADA, "--tenant", "shop") == f"{ADA}: suppressed already\n"
    assert not [recipient for recipient, _ in shell.events() if recipient == ADA]
