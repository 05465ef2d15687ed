"""The program itself: finding commands, exit statuses, what goes where; and `postrider check`."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import __version__
from engine.admin.door import SOCKET_NAME
from engine.admin.server import AdminServer
from engine.base.errors import ConfigError, EngineError, StorageError, UsageError
from engine.cli import common, main

GOOD = '[node]\nname = "mx.example.org"\n[[listener]]\nkind = "smtp"\naddress = "127.0.0.1:2525"\nnetworks = ["::1"]\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "providers.toml").write_text("")
    path = tmp_path / "postrider.toml"
    path.write_text(GOOD)
    return path


def run(*argv: object) -> int:
    return main.main([str(arg) for arg in argv])


def test_version_and_help_exit_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--version"], ["--help"], ["check", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            run(*argv)
    assert f"postrider {__version__}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        [], ["chekc"], ["check", "--jsn"], ["list", "-n", "-1"], ["list", "-n", "many"], ["events", "tail", "-n", "-1"],
        ["spool", "status", "-n", "-1"],
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*argv)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ConfigError(["one", "two"]), 2, "one\ntwo\n"),
        (UsageError(["one", "two"]), 2, "postrider: one\npostrider: two\n"),
        (EngineError("no daemon answers"), 1, "postrider: no daemon answers\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_a_line_and_a_status(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise error

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=fail)
    monkeypatch.setattr(main, "build_parser", lambda: parser)
    assert run() == status
    assert capsys.readouterr().err == said


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    """`postrider list | head -1`."""
    source = "import sys; from engine.cli.main import main; sys.exit(main(['check', '-c', '/nonexistent']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", source], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_program_starts_without_loading_the_engine() -> None:
    """A command that asks a running daemon one question must not first import all of it."""
    source = "import sys; import engine.cli.main as m; m.build_parser(); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert not {"aiosmtpd.smtp", "uvloop", "engine.daemon.worker", "prometheus_client"} & set(done.stdout.split())


def test_check_of_good_settings(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "-c", config) == 0
    assert capsys.readouterr().out.splitlines() == [
        "warning: postrider.toml: no [[dkim]]: mail leaves unsigned, and large receivers refuse unsigned bulk mail",
        "postrider.toml: ok",
    ]


def test_check_says_every_mistake(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "x.pem").write_text("no key")
    (config.parent / "x.pem").chmod(0o644)
    config.write_text(
        GOOD + 'auht = true\n[site]\nrate = "fast"\n[[dkim]]\ndomain = "example.org"\nselector = "s"\nkey = "x.pem"\n'
    )
    (config.parent / "providers.toml").write_text('[[provider]]\nname = "a"\n')
    assert run("check", "-c", config) == 2
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in said[:-1]] == [
        "[[listener]] 1 auht",
        "[site] rate",
        "[[provider]] 1 mx",
        "[[dkim]] 1 (example.org, s)",
    ]
    assert said[-1] == "postrider.toml: 4 mistakes"


def test_check_finds_rows_that_never_fire(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row of postrider.toml may take over one of providers.toml; within a file that is a mistake."""
    row = '[[provider]]\nname = "{}"\nmx = [".example.net"]\n'
    (config.parent / "providers.toml").write_text(row.format("a"))
    config.write_text(GOOD + row.format("b"))
    assert run("check", "-c", config) == 0
    (config.parent / "providers.toml").write_text(row.format("a") + row.format("b"))
    config.write_text(GOOD)
    capsys.readouterr()
    assert run("check", "-c", config) == 2
    assert capsys.readouterr().out.splitlines() == [
        'providers.toml: [[provider]] "b": mx ".example.net" is never reached, "a" above takes it',
        "postrider.toml: 1 mistake",
    ]


def test_check_says_which_spools_have_lost_their_worker(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = config.parent / "data" / "spool"
    for number in range(3):
        (spool / str(number)).mkdir(parents=True)
    (spool / "2" / "drained").touch()
    assert run("check", "-c", config) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "spool" in line]
    assert said.endswith("[node] workers: spool 1 has none any more; one that takes nothing new will empty it")


def test_a_data_dir_that_is_too_long_for_a_socket(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everybody says why: `check`, who asks, and who is to answer."""
    for workers, room in ((1, len("/admin.sock")), (64, len("/admin.63.sock"))):
        for over in (0, 1):
            data = "/tmp/".ljust(107 - room + over, "x")
            config.write_text(GOOD.replace("[node]", f'[node]\nworkers = {workers}\ndata_dir = "{data}"'))
            assert run("check", "-c", config) == 2 * over
            said = capsys.readouterr().out
            assert (f"[node] data_dir: {data} is 1 byte too long for the sockets in it" in said) == bool(over)
    assert run("status", "-c", config) == 1
    assert capsys.readouterr().err.endswith("No such file or directory\n")
    long = config.parent / ("x" * 107)
    config.write_text(GOOD.replace("[node]", f'[node]\ndata_dir = "{long}"'))
    assert run("status", "-c", config) == 1
    assert capsys.readouterr().err.endswith("AF_UNIX path too long\n")
    long.mkdir()
    with pytest.raises(StorageError, match="AF_UNIX path too long"):
        asyncio.run(AdminServer({}, long / SOCKET_NAME).start())


def test_check_reads_passwords(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "password").touch(0o600)
    config.write_text(
        GOOD + '[[route]]\ndomain = "*"\nrelay = "relay.example.org:587"\nusername = "u"\npassword_file = "password"\n'
    )
    assert run("check", "-c", config) == 2
    assert "must hold the password and nothing else" in capsys.readouterr().out


def test_check_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--json", "-c", config) == 0
    assert [json.loads(line)["severity"] for line in capsys.readouterr().out.splitlines()] == ["warning"]
    config.write_text("[nodes]")
    assert run("check", "--json", "-c", config) == 2
    assert json.loads(capsys.readouterr().out) == {
        "severity": "error",
        "text": "postrider.toml: [nodes]: unknown table (did you mean [node]?)",
    }


def test_check_of_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "-c", tmp_path / "none.toml") == 2
    assert capsys.readouterr().out == f"{tmp_path}/none.toml: no such file\nnone.toml: 1 mistake\n"


def test_the_settings_file_may_come_from_the_environment(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTRIDER_CONFIG", str(config))
    assert run("check") == 0


def test_rows_are_aligned_and_escape_what_could_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "a", "size": 12.345, "reply": "550 \x1b[2Jno\n"}, {"id": "bbbb", "size": None, "reply": "é"}]
    common.print_rows(rows, False, ("id", "size", "reply"))
    assert capsys.readouterr().out == "id    size  reply\na     12.3  550 \\x1b[2Jno\\n\nbbbb  -     é\n"
    common.print_rows(rows, True, ("id",))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows


def test_a_message_is_shown_as_people_read_it(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header = 'Subject: "a\tb" \x1b[2J\u2028\n c\n'
    delivery = {"destination": "b.test", "state": "held", "attempts": 0, "recipients": ["a@b.test", "c@b.test"]}
    row = {"id": "x", "received_at": 0, "expires_at": 0, "deliveries": [delivery], "header": header}
    monkeypatch.setattr("engine.cli.queue.ask", lambda *_, **__: [dict(row)])
    assert run("show", "x", "-c", config) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ['Subject: "a b" \\x1b[2J\\u2028', " c"]
    assert "b.test       held   0         -       a@b.test, c@b.test  -" in said
    assert run("show", "x", "--json", "-c", config) == 0
    assert json.loads(capsys.readouterr().out) == row


@pytest.mark.parametrize(
    ("command", "row", "said"),
    [
        ("purge", {"deliveries": 4, "in_attempt": 0}, "4 deliveries being removed"),
        ("bounce", {"deliveries": 1, "in_attempt": 0}, "1 delivery being returned"),
        ("purge", {"deliveries": 0, "in_attempt": 2}, "0 deliveries; 2 in an attempt, to be dealt with after it"),
        ("purge", {"deliveries": 0, "in_attempt": 0}, "0 deliveries"),
        ("retry", {"deliveries": 0, "in_attempt": 0, "held": 3}, "0 deliveries; 3 held until `resume`"),
        ("hold", {"deliveries": 0, "in_attempt": 0}, "0 deliveries; what comes is held, too, until `resume`"),
        ("resume", {"deliveries": 1, "in_attempt": 0, "held": 2}, "1 delivery; 2 kept by another hold"),
    ],
)
def test_what_an_action_did(
    command: str, row: dict[str, int], said: str, config: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("engine.cli.queue.ask", lambda *_, **__: [row])
    assert run(command, "one.test", "-c", config) == 0
    assert capsys.readouterr().out == f"{command}: {said}\n"


def test_a_hold_of_one_message_is_about_nothing_that_comes(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("engine.cli.queue.ask", lambda *_, **__: [{"deliveries": 1, "in_attempt": 0}])
    assert run("hold", "0Hs7kQpf3Za2Wq", "-c", config) == 0
    assert capsys.readouterr().out == "hold: 1 delivery\n"


def test_status_names_holds_and_moves(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moves = [{"scope": "a.test", "relay": "r.test:25"}, {"scope": "*", "relay": ""}]
    monkeypatch.setattr("engine.cli.queue.ask", lambda *_, **__: [{"holds": ["*", "b.test"], "moves": moves}])
    assert run("status", "-c", config) == 0
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["holds", "everything, b.test"],
        ["moves", "a.test by r.test:25, everything by its route"],
    ]
