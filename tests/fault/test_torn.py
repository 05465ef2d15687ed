"""A journal whose end was torn off, or that went bad in the middle: what was acknowledged is delivered all the same.

S3: any torn tail gives a state that existed. S5: a damaged record is set aside and reported, the rest goes on.
The seed is printed; POSTRIDER_SEED=N repeats the damage.
"""

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.message.envelope import Envelope, Recipient
from engine.storage.spool.frame import PREFIX_BYTES, VERSION, Frame, FrameType, encode, scan
from tests.support.engine import Daemon, Load, daemon, load, sink, wait_until
from tests.support.ports import free_port

Frames = list[Frame]


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("POSTRIDER_SEED", random.randrange(1 << 32)))
    print(f"POSTRIDER_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def engine(tmp_path: Path) -> Daemon:
    """Not started; nobody listens where its mail should go."""
    return Daemon(tmp_path, f'[[route]]\ndomain = "*"\nrelay = "127.0.0.1:{free_port()}"\n')


def newest_file(engine: Daemon) -> Path:
    return max((engine.data / "spool" / "0" / "journal").glob("*.log"))


def salt_of(path: Path) -> int:
    return int(path.name.split(".")[1], 16)


def frames_of(path: Path) -> Frames:
    """The whole frames of a file; the kill may have torn the last one."""
    found = list(scan(path.read_bytes(), salt_of(path)))
    assert all(isinstance(frame, Frame) or frame.torn for frame in found)
    return [frame for frame in found if isinstance(frame, Frame)]


def load_id(frame: Frame) -> str:
    """Of a message of `postrider load`; "" of any other frame."""
    for line in bytes(frame.body).split(b"\r\n"):
        if line.startswith(b"X-Load-Id: "):
            return line[11:].decode()
    return ""


def message_frame(path: Path, size: int) -> bytes:
    """A whole and valid record of a message that nobody was told about."""
    envelope = Envelope("0Unacknowledge", "a@load.example", (Recipient("nobody@load.example"),), 1.0, 9e9, size)
    snapshot = ["load.example", [0], 0.0, 0, 0, 0, ""]
    header = [VERSION, msgspec.msgpack.encode(envelope), [snapshot], None]
    body = b"Subject: never\r\n\r\n" + b"x" * size
    return encode(salt_of(path), FrameType.MESSAGE, 1 << 40, header, body) + body


def deliver_everything(engine: Daemon) -> set[str]:
    """Open the site at last; what arrived there."""
    port = int(engine.config.read_text().rpartition("127.0.0.1:")[2].split('"')[0])
    with sink(engine.path / "mx", port=port, save=False) as mx:
        engine.ask("retry", target="*")
        engine.empty()
        assert engine.status()["balanced"]
        assert engine.stop() == 0
        mx.stop()
        return mx.ids()


def test_a_tail_torn_anywhere_behind_what_was_acknowledged(engine: Daemon, chance: random.Random) -> None:
    """Killed under load; the newest file is cut at a random place that no client was told is safe."""
    accepted = engine.path / "accepted"
    for _ in range(4):
        engine.start()
        with Load(engine.port, accepted, "-n", "5000") as under_way:
            under_way.more(100)
            engine.kill()
        told, file = under_way.ids(), newest_file(engine)
        safe = max(frame.end for frame in frames_of(file) if load_id(frame) in told)
        size = file.stat().st_size
        os.truncate(file, chance.randint(safe, size))
    engine.start()
    assert under_way.ids() - deliver_everything(engine) == set()


def _garbage(path: Path, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randint(1, 20_000))


def _zeros(path: Path, chance: random.Random) -> bytes:
    return bytes(chance.randint(1, 20_000))


def _part_of_a_record(path: Path, chance: random.Random) -> bytes:
    whole = message_frame(path, chance.randint(0, 10_000))
    return whole[: chance.randrange(1, len(whole))]


def _a_record_with_a_hole(path: Path, chance: random.Random) -> bytes:
    """The blocks of a write reach the disk in any order."""
    whole = bytearray(message_frame(path, 20_000))
    start = chance.randrange(4096, len(whole) - 4096)
    whole[start : start + 4096] = bytes(4096)
    return bytes(whole)


def loaded(engine: Daemon, queued: int) -> None:
    """Wait until so many are queued; the old ones among them are loaded after the start."""
    wait_until(lambda: engine.status()["queued"] == queued, f"{queued} messages")


def test_whatever_a_crash_leaves_behind_the_last_whole_record(engine: Daemon, chance: random.Random) -> None:
    """S3: and nothing of it is taken for a message."""
    accepted, queued = engine.path / "accepted", 0
    tails: list[Callable[[Path, random.Random], bytes]] = [
        _garbage, _zeros, _part_of_a_record, _part_of_a_record, _a_record_with_a_hole,
    ]  # fmt: skip
    for tail in tails:
        engine.start()
        loaded(engine, queued)
        load(engine.port, accepted, "-n", "50", "--sessions", "5")
        queued += 50
        engine.kill()
        file = newest_file(engine)
        with file.open("ab") as end:
            end.write(tail(file, chance))
    engine.start()
    loaded(engine, queued)
    told = set(accepted.read_text().split())
    assert deliver_everything(engine) == told
    journal, log = engine.data / "spool" / "0" / "journal", engine.log_text()
    torn = set(re.findall(r"spool: (\S+): \d+ bytes from .*: the torn tail of a crash", log))
    assert len(torn) == len(tails) - 1
    # The one with the hole is as long as it should be, so it might have been acknowledged.
    assert [path.read_bytes().count(b"Subject: never") for path in (journal / "damaged").iterdir()] == [1]


def test_a_flipped_bit_costs_one_record_and_the_rest_goes_on(engine: Daemon, chance: random.Random) -> None:
    """S5: the daemon starts, the record is set aside, the log says so, all other mail goes out."""
    accepted = engine.path / "accepted"
    engine.start()
    load(engine.port, accepted, "-n", "200", "--sessions", "5")
    engine.kill()
    file = newest_file(engine)
    bad = chance.choice([frame for frame in frames_of(file) if load_id(frame)])
    data = bytearray(file.read_bytes())
    # The prefix of the very last record left out: with it, nobody knows how long the record is.
    data[chance.randrange(bad.offset + PREFIX_BYTES, bad.end)] ^= 1 << chance.randrange(8)
    file.write_bytes(data)

    engine.start()
    assert engine.status()["queued"] == 199
    kept = file.parent / "damaged" / f"{file.stem}.{bad.offset}"
    assert kept.read_bytes() == data[bad.offset : bad.end]
    assert f"{bad.end - bad.offset} bytes from {bad.offset} on are no whole record: set aside as {kept}" in (
        engine.log_text()
    )
    assert deliver_everything(engine) == set(accepted.read_text().split()) - {load_id(bad)}


def test_e1_an_event_journal_cut_anywhere_is_made_whole(engine: Daemon, chance: random.Random) -> None:
    """Events are written after their records and synced later: what a crash takes of them, the next start repeats."""
    accepted = engine.path / "accepted"
    engine.start()
    load(engine.port, accepted, "-n", "200", "--sessions", "5")
    engine.kill()
    complete = engine.events("received")
    assert len(complete) == 200
    for _ in range(3):
        newest = max((engine.data / "events" / "0").glob("*.log"))
        os.truncate(newest, chance.randrange(newest.stat().st_size))
        engine.start()
        assert engine.events("received") == complete
        engine.kill()


def test_records_of_a_newer_version_are_not_thrown_away(tmp_path: Path) -> None:
    """An older program refuses the journal of a newer one, and says so, instead of losing what it cannot read."""
    with daemon(tmp_path) as engine:
        pass
    engine.start()
    load(engine.port, tmp_path / "accepted", "-n", "1")
    engine.kill()
    file = newest_file(engine)
    with file.open("ab") as end:
        end.write(encode(salt_of(file), FrameType.MESSAGE, 1 << 40, [VERSION + 1, "?"]))
    refused = engine.run("serve", check=False)
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith(f"{file}: a record of a version this program does not know")


def test_a_content_that_goes_bad_while_the_daemon_runs(tmp_path: Path, chance: random.Random) -> None:
    """S5: it is never sent, its delivery is put off with a reason an operator can read, and it can be removed."""
    port = free_port()
    settings = f'[[route]]\ndomain = "*"\nrelay = "127.0.0.1:{port}"\n'
    with daemon(tmp_path, settings, spool='min_free = 0.0\nhot_bytes = "1"') as engine:
        load(engine.port, tmp_path / "accepted", "-n", "20", "--sessions", "1")
        file = newest_file(engine)
        bad = chance.choice([frame for frame in frames_of(file) if load_id(frame)])
        with file.open("r+b") as journal:
            journal.seek(bad.end - 100)
            journal.write(b"\x00")
        with sink(tmp_path / "mx", port=port, save=False) as mx:
            engine.ask("retry", target="*")
            wait_until(lambda: engine.status()["queued"] == 1, "the others to be delivered")
            (row,) = wait_until(lambda: [r for r in engine.ask("list") if r["state"] == "waiting"], "the bad one")
            assert "is damaged" in row["last"] and 0 < row["next_s"] <= 300
            assert f"{row['id']}: " in engine.log_text()
            mx.stop()
            assert mx.ids() == set((tmp_path / "accepted").read_text().split()) - {load_id(bad)}
        assert engine.ask("purge", target=row["id"]) == [{"deliveries": 1, "in_attempt": 0}]
        engine.empty()
        assert engine.status()["balanced"]
