"""Who may bind to us, from where, how often; what they are told; and what delivery hears of it."""

import asyncio
import logging
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.base.settings import Account, Intake, Settings
from engine.base.settings import Sms as SmsSettings
from engine.intake import smpp_connection
from engine.protocol.smpp_codec import encode
from engine.protocol.smpp_events import End
from engine.protocol.smpp_pdu import (
    BindReceiver,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    EnquireLink,
    EnquireLinkResp,
    Unbind,
    UnbindResp,
)
from engine.protocol.smpp_tables import TAGS, status_name
from tests.support.intake import Passwords, both_loops, tls_files
from tests.support.smpp_intake import ACCOUNT, GUARD_S, play, sm, taking, until


@pytest.mark.parametrize(
    ("version", "told"), [(0x33, None), (0, None), (0x34, b"\x34"), (0x50, b"\x50"), (0xFF, b"\x50")]
)
def test_a_bind_is_answered_in_the_clients_version(tmp_path: Path, version: int, told: bytes | None) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.client() as client:
            response = await client.bind(interface_version=version)
            assert (response.command_status, response.system_id) == (0, b"postrider")
            assert response.tlv(TAGS["sc_interface_version"]) == told

    play(story)


@pytest.mark.parametrize(
    ("who", "password", "status"),
    [
        ("app", "hunter2", "ESME_RINVPASWD"),
        ("app", "", "ESME_RINVPASWD"),
        ("nobody", "secret", "ESME_RINVSYSID"),
        ("", "", "ESME_RINVSYSID"),
        ("far", "secret", "ESME_RBINDFAIL"),
        ("open", "", "ESME_RINVPASWD"),
    ],
)
def test_who_may_not_bind_is_told_why(
    tmp_path: Path, who: str, password: str, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An account without a password is nobody's; the log has the exact reason, and no password."""
    accounts = (
        ACCOUNT,
        Account(system_id="far", password="secret", networks=("192.0.2.0/24",)),
        Account(system_id="open"),
    )

    async def story() -> None:
        async with taking(tmp_path, *accounts) as intake, intake.client() as client:
            assert status_name((await client.bind(who, password)).command_status) == status
            assert not client.bound
            response = await client.bind()  # the session goes on
            assert response.command_status == 0

    play(story)
    assert "bind refused" in caplog.text
    assert not password or password not in caplog.text


def test_guesses_end_the_session_and_then_the_address_waits(tmp_path: Path) -> None:
    limits = Intake(max_failed_logins=2, max_failed_logins_per_address=4)

    async def story() -> None:
        async with taking(tmp_path, tables={"intake": limits}) as intake:
            for _ in range(2):
                async with intake.client() as client:
                    for _ in range(2):
                        assert status_name((await client.bind(password="guess")).command_status) == "ESME_RINVPASWD"
                    assert (await client.ended()).end is End.LOST
            async with intake.client() as client:
                assert status_name((await client.bind()).command_status) == "ESME_RBINDFAIL"
                intake.clock.advance(limits.failed_login_window)
                assert (await client.bind()).command_status == 0
            assert intake.rejected("auth") == 4

    play(story)


def test_a_password_may_lie_in_the_credential_table(tmp_path: Path) -> None:
    account = Account(system_id="app", credential="login")

    async def story() -> None:
        async with taking(tmp_path, account, credentials=Passwords(login="known")) as intake, intake.client() as client:
            assert status_name((await client.bind(password="x")).command_status) == "ESME_RINVPASWD"
            assert (await client.bind(password="known")).command_status == 0

    play(story)


def test_a_networks_of_the_listener_hold_for_all(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path, networks=("192.0.2.0/24",)) as intake, intake.client() as client:
            assert status_name((await client.bind()).command_status) == "ESME_RBINDFAIL"

    play(story)


def test_no_more_binds_than_allowed(tmp_path: Path) -> None:
    accounts = replace(ACCOUNT, max_binds=2), Account(system_id="b", password="secret")

    async def story() -> None:
        async with taking(tmp_path, *accounts, sms=SmsSettings(max_binds=3)) as intake:
            async with intake.bound() as first, intake.bound(), intake.client() as third:
                assert status_name((await third.bind()).command_status) == "ESME_RBINDFAIL"
                async with intake.bound(system_id="b"), intake.client() as fifth:
                    assert status_name((await fifth.bind("b")).command_status) == "ESME_RBINDFAIL"
                await first.ask(Unbind())
                await until(lambda: intake.listener.connections < 4)
                assert (await third.bind()).command_status == 0
            await until(lambda: not intake.listener.connections)

    play(story)


def test_a_second_bind_in_a_session_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake:
            reader, writer = await asyncio.open_connection(*intake.listener.address)
            bind = encode(BindTransceiver(1, system_id=b"app", password=b"secret"))
            for expected in (0, 5):
                writer.write(bind)
                async with asyncio.timeout(GUARD_S):
                    length = int.from_bytes(await reader.readexactly(4))
                    rest = await reader.readexactly(length - 4)
                assert int.from_bytes(rest[4:8]) == expected
            writer.close()

    play(story)


def test_delivery_hears_of_each_receiver_and_when_the_last_one_went(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake:
            async with intake.bound(kind=BindTransmitter):
                assert not intake.told and not intake.binds.receivers("app")
                async with intake.bound(kind=BindReceiver):
                    assert intake.told == ["+app"]
                    async with intake.bound():
                        assert len(intake.binds.receivers("app")) == 2
                    await until(lambda: len(intake.binds.receivers("app")) == 1)
                    assert intake.told == ["+app", "+app"]
                await until(lambda: intake.told == ["+app", "+app", "-app"])
            assert not intake.binds.receivers("nobody")

    play(story)


def test_enquire_link_before_the_bind_is_answered(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.client() as client:
            assert isinstance(await client.ask(EnquireLink()), EnquireLinkResp)
            assert (await client.bind()).command_status == 0

    play(story)


def test_a_client_that_does_not_bind_is_cut_off(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path, sms=SmsSettings(bind_timeout=0.05)) as intake, intake.client() as client:  # type: ignore[arg-type]  # seconds
            await client.ended()
            await until(lambda: not intake.listener.connections)

    play(story)


@both_loops
def test_tls_from_the_first_byte(tmp_path: Path, loop: str) -> None:
    async def story() -> None:
        async with taking(tmp_path, tls=tls_files(tmp_path)) as intake:
            async with intake.client(tls=True) as client:
                assert (await client.bind()).command_status == 0
                assert (await client.submit()).command_status == 0
                assert [sms.text for _, _, sms in intake.stored()] == ["hello"]
            async with intake.client() as plain:  # no TLS: the handshake fails, and the place is free again
                plain.wire.request(BindTransceiver(), asyncio.get_running_loop().create_future())
                await plain.ended()
            await until(lambda: not intake.listener.connections)
            assert intake.rejected("tls") == 1

    play(story, loop)


def test_connections_of_an_address_are_limited(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path, tables={"intake": Intake(max_connections_per_address=1)}) as intake:
            async with intake.bound(), intake.client() as second:
                await second.ended()
            await until(lambda: not intake.listener.connections)

    play(story)


def test_an_account_that_goes_is_unbound_and_new_limits_hold_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            intake.binds.reload(Settings(account=(Account(system_id="b", password="secret"),)))
            assert (await client.ended()).end is End.UNBOUND
            async with intake.client() as other:
                assert (await other.bind("b")).command_status == 0

    play(story)


def test_who_unbinds_in_the_same_breath_is_answered_and_harms_nobody(tmp_path: Path) -> None:
    """The session is over before the bind is served."""

    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            for _ in range(20):
                reader, writer = await asyncio.open_connection(*intake.listener.address)
                bind = BindTransceiver(1, system_id=b"app", password=b"secret")
                writer.write(encode(bind) + encode(Unbind(2)))
                version = ((TAGS["sc_interface_version"], b"\x34"),)
                bound = BindTransceiverResp(1, tlvs=version, system_id=b"postrider")
                assert await reader.read() == encode(bound) + encode(UnbindResp(2))
                writer.close()
                assert (await client.submit()).command_status == 0
            account = intake.binds.account("app")
            assert account is not None and len(account.binds) == 1
            assert intake.metrics.internal_errors.labels("smpp").value == 0

    play(story)


def test_a_stop_does_not_wait_for_a_client_that_answers_no_unbind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smpp_connection, "_UNBIND_S", 0.05)

    async def story() -> None:
        async with taking(tmp_path) as intake:
            reader, writer = await asyncio.open_connection(*intake.listener.address)
            writer.write(encode(BindTransceiver(1, system_id=b"app", password=b"secret")))
            await reader.read(1)
            await intake.listener.close()
            async with asyncio.timeout(GUARD_S):
                await intake.listener.drain(asyncio.get_running_loop().time() + 10 * GUARD_S)
            writer.close()

    play(story)


@both_loops
def test_a_stop_answers_what_came_then_unbinds(tmp_path: Path, loop: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client, intake.client() as idle:
            answers = [client.ask_soon(sm(b"%d" % number)) for number in range(50)]
            await until(lambda: len(intake.spool.in_hand) or intake.accepted)
            await intake.listener.close()
            await intake.listener.drain(asyncio.get_running_loop().time() + GUARD_S)
            assert (await client.ended()).end is End.UNBOUND
            await idle.ended()
            taken = [answer.result().message_id for answer in answers if not answer.result().command_status]
            assert taken and sorted(taken) == sorted(d.message.id.encode() for d in intake.accepted)

    play(story, loop)
    assert "bound as transceiver, version 3.4" in caplog.text
    assert "unbound" in caplog.text
