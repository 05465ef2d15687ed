"""`postrider sink` and `postrider load`: options of the protocol that is not spoken, and every mistake at once."""

import pytest

from engine.cli.main import main

SINK_SMTP = ("--drop=mail", "--delay=mail=1", "--rate-reply=451 no", "--max-connections=10000", "--max-size=100MiB",
             "--chunking", "--without=dsn", "--save=x")  # fmt: skip
SINK_SMPP = ("--receipts=early", "--message-ids=hex", "--state=4=UNDELIV", "--answer=4=STOP", "--silent=4",
             "--throttle=1%", "--dead-after=1", "--close-after=1", "--split=1", "--window=500")  # fmt: skip
LOAD_SMTP = ("--to=127.0.0.1:2525", "--messages-per-connection=10", "--recipients=1", "--domains=1",
             "--domain=load.example", "--no-pipelining")  # fmt: skip
LOAD_SMPP = ("--system-id=load", "--password=", "--window=10", "--text=x", "--destination=4#",
             "--registered-delivery=0", "--receipts=1s")  # fmt: skip


@pytest.mark.parametrize(
    ("command", "others", "protocol"),
    [
        (["sink", "--smpp"], SINK_SMTP, "SMTP"), (["sink"], SINK_SMPP, "SMPP"),
        (["load", "--smpp=127.0.0.1:1"], LOAD_SMTP, "SMTP"), (["load"], LOAD_SMPP, "SMPP"),
    ],
)  # fmt: skip
def test_options_of_the_other_protocol_are_errors(
    command: list[str], others: tuple[str, ...], protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that say what is the default anyway."""
    assert main([*command, *others]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [f"postrider: {option.split('=')[0]} is for {protocol} only" for option in others]


@pytest.mark.parametrize(
    ("argv", "problems"),
    [
        (["sink", "--smpp", "--receipts=none", "--receipts=early", "--state=4=GONE", "--split=0", "--throttle=2",
          "--dead-after=0", "--close-after=1", "--tls=starttls", "--rate=fast", "--message-ids=octal",
          "--login=acme"], 10),
        (["sink", "--reply=x", "--drop=x", "--delay=x=1", "--rate=x", "--max-size=x", "--listen=x"], 6),
        (["load", "--smpp=nowhere", "--count=0", "--window=0", "--rate=x", "--receipts=soon", "--size=1", "--text=x",
          "--registered-delivery=256", "--system-id=0123456789abcdef"], 8),
        (["load", "--smpp=127.0.0.1:1", "--receipts=1s", "--registered-delivery=0"], 1),
        (["load", "--smpp=127.0.0.1:1", "--destination=44"], 1),
        (["load", "-n=0", "--sessions=0", "--size=x"], 3),
    ],
)  # fmt: skip
def test_all_mistakes_are_told_in_one_run(argv: list[str], problems: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == problems and all(line.startswith("postrider: ") for line in told), told


@pytest.mark.parametrize("command", ["sink", "load"])
def test_help_names_the_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert "over SMTP only" in shown and "over SMPP only" in shown
    assert "%(default)s" not in shown and "[None]" not in shown
