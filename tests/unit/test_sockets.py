"""Sockets that several workers share: one port, and nobody else's."""

import socket
from collections.abc import Iterator

import pytest

from engine.base.errors import NetworkError
from engine.daemon import sockets as shared


@pytest.fixture
def bound() -> Iterator[list[socket.socket]]:
    sockets = shared.bind("127.0.0.1:0")
    yield sockets
    shared.close(sockets)


@pytest.mark.parametrize("shares", [False, True], ids=["", "which would share it"])
def test_the_port_of_another_program_is_an_error(shares: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(NetworkError) as refused:
            shared.bind(address)
        assert str(refused.value) == f"cannot listen on {address}: Address already in use"


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(NetworkError, match=r"cannot listen on 192.0.2.1:2525: Cannot assign"):
        shared.bind("192.0.2.1:2525")
    with pytest.raises(NetworkError, match=r"cannot listen on nowhere.invalid:2525: "):
        shared.bind("nowhere.invalid:2525")


def test_a_port_is_handed_over_and_then_nobodys_again(bound: list[socket.socket]) -> None:
    bound[0].listen()
    port = bound[0].getsockname()[1]
    with pytest.raises(NetworkError, match="in use"):
        shared.bind(f"0.0.0.0:{port}")
    taken_over = shared.bind(f"0.0.0.0:{port}", [bound[0].fileno()])
    shared.close(bound)
    with taken_over[0], pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))


def test_they_reach_another_process_with_their_addresses(bound: list[socket.socket]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert shared.send(ours, {"127.0.0.1:1": bound, "localhost:2": [*bound, *bound]}) == 3
        received = shared.receive(theirs, 3)
    assert {address: len(own) for address, own in received.items()} == {"127.0.0.1:1": 1, "localhost:2": 2}
    assert received["127.0.0.1:1"][0].getsockname() == bound[0].getsockname()
    for own in received.values():
        shared.close(own)


def test_a_worker_keeps_what_its_listeners_still_use() -> None:
    held = shared.HeldSockets()
    held.add({address: [socket.socket()] for address in ("a:1", "b:2")})
    (copy,) = held.at("a:1")
    copy.close()
    held.keep(["a:1"])
    with pytest.raises(NetworkError, match="the supervisor sent no socket"):
        held.at("b:2")
    (copy,) = held.at("a:1")
    copy.close()
    held.keep(())
