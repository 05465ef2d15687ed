"""The signer: which messages leave signed, what happens to those that cannot be, and its threads."""

import asyncio
import threading

import msgspec
import pytest

from engine.base.errors import ConfigError, EngineError
from engine.base.metrics import Metrics
from engine.base.settings import Dkim, Settings, Signing
from engine.delivery.signer import Signer
from engine.message.dkim import Request
from engine.message.dkim_keys import KeyRing
from tests.support.dkim import MESSAGES, accepted_by_dkimpy, both_keys, ed_key, envelope, received, rsa_key, write_key

PLAIN = MESSAGES["plain"]
KEYS = both_keys()


class FixedClock:
    def time(self):
        return 1_767_225_600.9

    def monotonic(self):
        return 0.0


@pytest.fixture
def settings(tmp_path):
    tables = (
        Dkim(domain="example.org", selector="r", key=write_key(tmp_path, "r.pem", rsa_key())),
        Dkim(domain="example.org", selector="e", key=write_key(tmp_path, "e.pem", ed_key())),
    )
    return Settings(dkim=tables)


@pytest.fixture
def open_signer():
    """Makes signers that are closed at the end."""
    made = []

    def make(settings, metrics=None):
        made.append(Signer(settings, metrics or Metrics(), FixedClock()))
        return made[-1]

    yield make
    for signer in made:
        signer.close()


class Gate:
    """A key whose signatures wait until the test lets them."""

    slow = True
    dns_name = "gate"

    def __init__(self):
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)

    def request(self, prepared, time, expire=None):
        return Request(b"", b"")

    def complete(self, request):
        self.entered.release()
        assert self.opened.wait(30)
        return b"signed\r\n"


class Broken(Gate):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def complete(self, request):
        raise self.error


def with_key(signer, key):
    signer._ring = KeyRing([("example.org", key)])
    return signer


def sign(signer, content, header_from="example.org"):
    return asyncio.run(signer.sign(envelope(content, header_from), content))


def test_one_signature_for_each_key_of_the_domain(settings, open_signer):
    fields = sign(open_signer(settings), PLAIN)
    assert fields.count(b"DKIM-Signature: ") == 2
    assert fields.index(b"a=rsa-sha256") < fields.index(b"a=ed25519-sha256")
    assert accepted_by_dkimpy(received(fields, PLAIN), KEYS) == [True, True]


@pytest.mark.parametrize("name", ["200 KiB", "long lines"])
def test_large_contents_are_prepared_in_the_thread(name, settings, open_signer):
    content = MESSAGES[name]
    fields = sign(open_signer(settings), content)
    assert accepted_by_dkimpy(received(fields, content), KEYS) == [True, True]


def test_ed25519_alone_needs_no_thread(settings, open_signer):
    signer = open_signer(msgspec.structs.replace(settings, dkim=settings.dkim[1:]))
    assert accepted_by_dkimpy(received(sign(signer, PLAIN), PLAIN), KEYS[1:]) == [True]
    assert signer._threads._threads == []


@pytest.mark.parametrize("large", [False, True])
def test_a_message_without_from_is_not_signed_whatever_key_there_is(large, tmp_path, settings, open_signer):
    """RFC 6376 5.4: From is covered, or it is no signature."""
    key = write_key(tmp_path, "any.pem", rsa_key())
    any_domain = Dkim(domain="*", selector="s", key=key, identity="example.org")
    signer = open_signer(msgspec.structs.replace(settings, dkim=(*settings.dkim, any_domain)))
    body = b"\r\nHello\r\n" * (20_000 if large else 1)
    assert sign(signer, b"Subject: x\r\nX-From: a@b.test\r\n" + body, "") == b""
    assert sign(signer, b"Subject: x\r\nFrom: nobody\r\n" + body, "").count(b"DKIM-Signature: ") == 1


def test_no_key_no_signature(settings, open_signer):
    metrics = Metrics()
    signer = open_signer(settings, metrics)
    assert sign(signer, PLAIN, "example.net") == b""
    assert sign(open_signer(Settings()), PLAIN) == b""
    assert metrics.registry.get_sample_value("postrider_dkim_sign_seconds_count") == 0


def test_fallback_signs_as_its_identity(tmp_path, open_signer):
    key = write_key(tmp_path, "k.pem", ed_key())
    signer = open_signer(Settings(dkim=(Dkim(domain="*", selector="f", key=key, identity="example.com"),)))
    assert b" d=example.com; s=f;" in sign(signer, PLAIN, "anything.example")


def test_times_come_from_the_clock(settings, open_signer):
    assert b"t=1767225600; bh=" in sign(open_signer(settings), PLAIN)
    signer = open_signer(msgspec.structs.replace(settings, signing=Signing(expire_after=86400.0)))
    assert b"t=1767225600; x=1767312000; bh=" in sign(signer, PLAIN)


def test_each_signed_message_is_measured_once(settings, open_signer):
    metrics = Metrics()
    sign(open_signer(settings, metrics), PLAIN)
    assert metrics.registry.get_sample_value("postrider_dkim_sign_seconds_count") == 1


@pytest.mark.parametrize("error", [EngineError("no"), MemoryError("no"), ValueError("no")])
def test_a_key_that_cannot_sign_is_an_error_and_never_an_unsigned_message(error, settings, open_signer):
    signer = with_key(open_signer(settings), Broken(error))
    for _ in range(5):  # more often than there are threads: a fault ends none of them
        with pytest.raises(EngineError, match="no"):
            sign(signer, PLAIN)


def test_many_at_once_come_back_to_their_own_message(settings, open_signer):
    contents = [PLAIN.replace(b"Hello", b"Number %d" % number) for number in range(60)]

    async def all_of_them(signer):
        return await asyncio.gather(*(signer.sign(envelope(content), content) for content in contents))

    for content, fields in zip(contents, asyncio.run(all_of_them(open_signer(settings))), strict=True):
        assert accepted_by_dkimpy(fields + content, KEYS[1:]) == [True]


def test_the_queue_is_bounded_and_those_beyond_wait(settings, open_signer):
    gate = Gate()
    signer = with_key(open_signer(msgspec.structs.replace(settings, signing=Signing(queue=3))), gate)

    async def story():
        tasks = [asyncio.create_task(signer.sign(envelope(PLAIN), PLAIN)) for _ in range(10)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert signer._threads.pending == 3
        tasks[4].cancel()  # one of those that wait
        gate.opened.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results.count(b"signed\r\n") == 9
        assert isinstance(results[4], asyncio.CancelledError)
        assert signer._threads.pending == 0

    asyncio.run(story())


def test_a_cancelled_message_disturbs_no_other(settings, open_signer):
    gate = Gate()
    signer = with_key(open_signer(settings), gate)

    async def story():
        first, second = (asyncio.create_task(signer.sign(envelope(PLAIN), PLAIN)) for _ in range(2))
        await asyncio.to_thread(gate.entered.acquire)
        first.cancel()
        gate.opened.set()
        assert await second == b"signed\r\n"
        assert first.cancelled()

    asyncio.run(story())


def test_reload_takes_new_keys_at_once(settings, open_signer):
    signer = open_signer(settings)
    assert sign(signer, PLAIN).count(b"DKIM-Signature") == 2
    signer.reload(msgspec.structs.replace(settings, dkim=settings.dkim[1:], signing=Signing(threads=1)))
    assert b"a=ed25519-sha256" in sign(signer, PLAIN)
    signer.reload(Settings())
    assert sign(signer, PLAIN) == b""


def test_reload_with_a_mistake_changes_nothing(settings, open_signer, tmp_path):
    signer = open_signer(settings)
    wrong = Dkim(domain="example.org", selector="x", key=str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError):
        signer.reload(msgspec.structs.replace(settings, dkim=(wrong,)))
    assert sign(signer, PLAIN).count(b"DKIM-Signature") == 2


def test_without_threads_the_loop_signs_all_but_large_contents(settings, open_signer):
    signer = open_signer(msgspec.structs.replace(settings, signing=Signing(threads=0)))
    assert accepted_by_dkimpy(received(sign(signer, PLAIN), PLAIN), KEYS) == [True, True]
    assert signer._threads._threads == []
    large = MESSAGES["200 KiB"]
    assert accepted_by_dkimpy(received(sign(signer, large), large), KEYS) == [True, True]
    assert signer._threads._count == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_follows_the_settings(threads, settings, open_signer):
    signer = open_signer(settings)
    assert sign(signer, PLAIN)
    assert signer._threads._count == 2
    signer.reload(msgspec.structs.replace(settings, signing=Signing(threads=threads)))
    for _ in range(4):
        assert sign(signer, PLAIN)
    assert signer._threads._count == threads
    everybody = list(signer._threads._threads)
    signer.close()
    assert not any(thread.is_alive() for thread in everybody)


def test_close_signs_what_was_asked_for_and_takes_no_more(settings, open_signer):
    gate = Gate()
    signer = with_key(open_signer(settings), gate)

    async def story():
        tasks = [asyncio.create_task(signer.sign(envelope(PLAIN), PLAIN)) for _ in range(4)]
        await asyncio.sleep(0)
        gate.opened.set()
        signer.close()
        assert await asyncio.gather(*tasks) == [b"signed\r\n"] * 4
        with pytest.raises(EngineError, match="closed"):
            await signer.sign(envelope(PLAIN), PLAIN)

    asyncio.run(story())
