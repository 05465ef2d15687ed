"""Sockets that several workers share: one port, and nobody else's."""

import socket
from collections.abc import Iterator

import pytest

from engine.base.errors import NetworkError
from engine.daemon import sockets as shared


@pytest.fixture
def pair() -> Iterator[list[socket.socket]]:
    """Two sets of one socket, on the same port."""
    sets = shared.bind("127.0.0.1:0", 2)
    yield [own[0] for own in sets]
    shared.close(sets)


def reaches(sock: socket.socket) -> int:
    """Connections that wait here; they are taken."""
    sock.setblocking(False)
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def connect(sock: socket.socket, times: int) -> None:
    for _ in range(times):
        socket.create_connection(sock.getsockname()).close()


def test_clients_are_spread_over_the_sockets(pair: list[socket.socket]) -> None:
    for sock in pair:
        sock.listen(200)
    connect(pair[0], 100)
    counts = [reaches(sock) for sock in pair]
    assert sum(counts) == 100
    assert min(counts) > 10


def test_a_socket_at_rest_gets_nobody_until_it_listens_again(pair: list[socket.socket]) -> None:
    for sock in pair:
        sock.listen(200)
    with socket.socket() as not_listening:
        shared.pause({"x": [pair[1]], "y": [not_listening]})
    connect(pair[0], 20)
    assert reaches(pair[0]) == 20
    pair[1].listen(200)
    connect(pair[0], 100)
    assert reaches(pair[1]) > 10


@pytest.mark.parametrize("shares", [False, True], ids=["", "which would share it"])
def test_the_port_of_another_program_is_an_error(shares: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(NetworkError) as refused:
            shared.bind(address, 2)
        assert str(refused.value) == f"cannot listen on {address}: Address already in use"


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(NetworkError, match=r"cannot listen on 192.0.2.1:2525: Cannot assign"):
        shared.bind("192.0.2.1:2525", 2)
    with pytest.raises(NetworkError, match=r"cannot listen on nowhere.invalid:2525: "):
        shared.bind("nowhere.invalid:2525", 2)


def test_they_reach_another_process_with_their_addresses(pair: list[socket.socket]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert shared.send(ours, {"127.0.0.1:1": [pair[0]], "localhost:2": pair}) == 3
        received = shared.receive(theirs, 3)
    assert {address: len(own) for address, own in received.items()} == {"127.0.0.1:1": 1, "localhost:2": 2}
    assert received["127.0.0.1:1"][0].getsockname() == pair[0].getsockname()
    shared.close(received.values())


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
