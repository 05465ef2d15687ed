"""The stream of an export, byte for byte: what is no stream, or no whole one, is refused."""

import pytest

from engine.message.envelope import Envelope, Recipient
from engine.storage.spool.export import Exported, StreamError, StreamReader, StreamWriter
from tests.support.spool_tools import CONTENT, messages, name_of

TWO = {0: ["d.test", (0,), 1.0, 0, (), 0, ""], 3: ["e.test", (1,), 1.0, 2, (1,), 1, "said"]}


def a_message(number: int = 1) -> Exported:
    recipients = Recipient("c@d.test"), Recipient("c@e.test")
    return Exported(Envelope(name_of(number), "a@b.test", recipients, 1.0, 2.0, len(CONTENT)), TWO, CONTENT)


def a_stream() -> bytes:
    writer = StreamWriter()
    return b"".join(
        [writer.begin("old.test/0", 1.0, "*"), *writer.add(a_message()), *writer.add(a_message(2)), writer.end()]
    )


def test_messages_come_back_with_their_deliveries() -> None:
    assert messages(a_stream()) == [a_message(), a_message(2)]
    assert a_stream().count(CONTENT) == 2


def test_p2_a_stream_is_the_same_however_it_is_cut() -> None:
    stream = a_stream()
    for size in (1, 7, 40, 41, 1000):
        reader = StreamReader()
        found: list[Exported] = []
        for start in range(0, len(stream), size):
            found += reader.feed(stream[start : start + size])
        reader.end()
        assert (found, reader.count) == ([a_message(), a_message(2)], 4)


def test_every_cut_of_a_stream_is_noticed() -> None:
    stream = a_stream()
    for length in range(len(stream)):
        with pytest.raises(StreamError):
            messages(stream[:length])
    with pytest.raises(StreamError, match="follows its end"):
        messages(stream + b"x")
    with pytest.raises(StreamError, match="out of order"):
        messages(stream + stream)


def test_a_stream_without_one_of_its_messages_is_noticed() -> None:
    """Whole frames, so no checksum of a frame would tell."""
    writer = StreamWriter()
    begin = writer.begin("old.test/0", 1.0, "*")
    writer.add(a_message())
    with pytest.raises(StreamError, match="out of order"):
        messages(begin + writer.end())


def test_a_stream_with_another_number_of_deliveries_than_its_end_says_is_noticed() -> None:
    writer, other = StreamWriter(), StreamWriter()
    stream = writer.begin("old.test/0", 1.0, "*") + b"".join(writer.add(a_message()))
    other.begin("old.test/0", 1.0, "*")
    other.add(a_message()._replace(deliveries={0: TWO[0]}))
    with pytest.raises(StreamError, match="count and checksum are not those"):
        messages(stream + other.end())


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("its recipients", {"indexes": (1,)}),
        ("its recipients", {"indexes": ()}),
        ("its recipients", {"indexes": (0, 0)}),
        ("its recipients", {"number": 1, "more": {2: ["e.test", (0,), 1.0, 0, (), 0, ""]}}),
        ("its deliveries", {"deliveries": {}}),
        ("its addresses", {"address": "c@d.test>\r\nDATA"}),
        ("its content", {"content": b"bare\nline\r\n"}),
        ("its content", {"content_bytes": len(CONTENT) + 1}),
        ("its destination", {"destination": ""}),
        ("its class", {"message_class": 7}),
        ("its id", {"name": "not an id"}),
        ("its times", {"due_at": float("nan")}),
        ("its times", {"expires_at": float("inf")}),
        ("its counts", {"attempts": -1}),
        ("its number", {"number": 70000}),
        ("its number", {"number": -1}),
    ],
)  # fmt: skip
def test_a_delivery_that_the_queue_could_not_take_is_refused(what: str, change: dict[str, object]) -> None:
    use: dict[str, object] = {
        "indexes": (0,), "address": "c@d.test", "content": CONTENT, "destination": "d.test", "message_class": 1,
        "name": name_of(1), "due_at": 1.0, "expires_at": 2.0, "attempts": 0, "number": 0, "more": {}, **change,
    }  # fmt: skip
    content = use["content"]
    assert isinstance(content, bytes)
    envelope = Envelope(
        use["name"], "a@b.test", (Recipient(str(use["address"])),), 1.0, use["expires_at"],  # type: ignore[arg-type]
        use.get("content_bytes", len(content)), use["message_class"],  # type: ignore[arg-type]
    )  # fmt: skip
    snapshot = [use["destination"], use["indexes"], use["due_at"], use["attempts"], (), 0, ""]
    deliveries = use.get("deliveries", {use["number"]: snapshot, **use["more"]})  # type: ignore[dict-item]
    writer = StreamWriter()
    stream = writer.begin("old.test/0", 1.0, "*")
    stream += b"".join(writer.add(Exported(envelope, deliveries, content)))  # type: ignore[arg-type]
    with pytest.raises(StreamError, match=what):
        messages(stream + writer.end())


@pytest.mark.parametrize("version", [1, 3])
def test_a_stream_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("engine.storage.spool.export.STREAM_VERSION", version)
        stream = a_stream()
    with pytest.raises(StreamError, match=f"is of version {version}, which this program does not know"):
        messages(stream)


def test_what_is_no_stream_is_called_so() -> None:
    with pytest.raises(StreamError, match="this is no export of a spool"):
        messages(b"From ada@home.test Thu Jan  1 00:00:00 1970\n" * 3)
