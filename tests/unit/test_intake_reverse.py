"""The client's name in Received: confirmed by the DNS, never waited for."""

import asyncio
from typing import Any

import pytest

from engine.base.clock import SystemClock
from engine.base.settings import Intake
from engine.intake.reverse import ReverseNames
from engine.net.dns_query import RecordType
from engine.net.resolver import Answer
from tests.support.clock import breathe
from tests.support.intake import ENVELOPE, MESSAGE, RawClient, Running, run, running
from tests.support.lookup import ZoneLookup

ASKED = Intake(reverse_dns=True)
LAST = b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE
PTR = "1.0.0.127.in-addr.arpa. 60 PTR"
GOOD = f"{PTR} client.example.\nclient.example. 60 A 192.0.2.9\nclient.example. 60 A 127.0.0.1\n"
PROXIED = "9.2.0.192.in-addr.arpa. 60 PTR far.example.\nfar.example. 60 A 192.0.2.9\n"


async def received(intake: Running, client: RawClient) -> bytes:
    """The first line of Received of one more message."""
    await client.send(ENVELOPE + LAST)
    assert await client.replies(3) == [250, 250, 250]
    return intake.store.messages[-1].header.partition(b"\r\n")[0]


def story(zone: str, expected: bytes, before: bytes = b"", **listener: Any) -> None:
    """before: what a proxy says first."""

    async def scenario() -> None:
        names = ReverseNames(ZoneLookup(zone, SystemClock()))
        async with running(intake=ASKED, reverse=names, **listener) as intake, intake.client() as client:
            await client.send(before)
            await client.hello()
            await breathe()
            assert await received(intake, client) == b"Received: from client.example (" + expected + b")"
        assert not names._tasks

    run(scenario)


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (GOOD, b"client.example"),
        (f"{PTR} nowhere.example.\n{GOOD}", b"client.example"),
        (f"{PTR} client.example.\nclient.example. 60 A 192.0.2.9\n", b"unknown"),
        (f"{PTR} client.example.\n", b"unknown"),
        (f"{PTR} a\\040[192.0.2.1]\\010x.\n", b"unknown"),
        (f"{PTR} .\n", b"unknown"),
        (f"{PTR} 127.0.0.1.\n127.0.0.1. 60 A 127.0.0.1\n", b"unknown"),
        ("", b"unknown"),
    ],
)
def test_a_name_counts_if_it_has_the_address(zone: str, name: bytes) -> None:
    """Whoever owns an address may write any name beside it."""
    story(zone, name + b" [127.0.0.1]")


def test_the_client_of_a_proxy_is_looked_up_and_not_the_proxy() -> None:
    networks = {"proxy_from": ("127.0.0.0/8",), "networks": ("192.0.2.0/24",)}
    header = b"PROXY TCP4 192.0.2.9 192.0.2.1 1 25\r\n"
    story(GOOD + PROXIED, b"far.example [192.0.2.9]", before=header, **networks)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (b"ADDR=192.0.2.9", b"far.example [192.0.2.9]"),
        (b"ADDR=192.0.2.9 NAME=said.example", b"said.example [192.0.2.9]"),
        (b"ADDR=192.0.2.7", b"unknown [192.0.2.7]"),
    ],
)
def test_the_client_that_xclient_names_does_not_have_the_name_of_the_one_that_says_so(
    attributes: bytes, expected: bytes
) -> None:
    async def scenario() -> None:
        names = ReverseNames(ZoneLookup(GOOD + PROXIED, SystemClock()))
        networks = {"xclient_from": ("127.0.0.0/8",), "networks": ("192.0.2.0/24",)}
        async with running(intake=ASKED, reverse=names, **networks) as intake, intake.session() as client:
            await client.send(b"XCLIENT " + attributes + b"\r\n")
            await client.hello()
            await breathe()
            assert expected in await received(intake, client)

    run(scenario)


def test_nothing_is_asked_unless_the_settings_say_so() -> None:
    async def scenario() -> None:
        dns = ZoneLookup(GOOD, SystemClock())
        async with running(reverse=ReverseNames(dns)) as intake, intake.session() as client:
            assert b"(unknown [127.0.0.1])" in await received(intake, client)
        assert not dns.asked

    run(scenario)


class LateLookup(ZoneLookup):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(GOOD, SystemClock())
        self.go = asyncio.Event()

    async def lookup(self, name: str, kind: RecordType) -> Answer:
        await self.go.wait()
        return await super().lookup(name, kind)


def test_a_slow_dns_delays_nobody_and_its_answer_is_for_the_next_message() -> None:
    async def scenario() -> None:
        dns = LateLookup()
        async with running(intake=ASKED, reverse=ReverseNames(dns)) as intake, intake.session() as client:
            assert b"(unknown [127.0.0.1])" in await received(intake, client)
            dns.go.set()
            await breathe()
            assert b"(client.example [127.0.0.1])" in await received(intake, client)
            assert [m.envelope.client for m in intake.store.messages] == [
                "unknown[127.0.0.1]", "client.example[127.0.0.1]",
            ]  # fmt: skip

    run(scenario)


def test_a_dns_that_never_answers_is_given_up_and_a_stop_does_not_wait_for_it() -> None:
    async def scenario() -> None:
        impatient, patient = ReverseNames(LateLookup(), timeout_s=0.01), ReverseNames(LateLookup(), timeout_s=1e6)
        for names in (impatient, patient):
            async with running(intake=ASKED, reverse=names) as intake, intake.session() as client:
                assert b"(unknown [127.0.0.1])" in await received(intake, client)
        await asyncio.gather(*impatient._tasks)
        assert len(patient._tasks) == 1
        await patient.close()
        assert not patient._tasks

    run(scenario)
