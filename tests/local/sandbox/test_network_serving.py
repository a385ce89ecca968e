"""The local AWS answers on sockets of other networks as on its own: the same application, for as long as they are lent to it."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterable, Iterator

import pytest

from scar.local.address import is_local_name, is_own_address
from scar.local.server import Environ, Server, StartResponse

HELD = threading.Event()


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Tells at which address it was asked; `/held` is not answered before the test wants it."""
    if environ["PATH_INFO"] == "/held":
        HELD.wait(10)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SERVER_NAME']} {environ['REMOTE_ADDR']} {environ['PATH_INFO']}".encode()]


@pytest.fixture
def server() -> Iterator[Server]:
    HELD.clear()
    made = Server(0, application)
    serving = threading.Thread(target=made.serve_forever, args=(0.01,))
    serving.start()
    yield made
    HELD.set()
    made.shutdown()
    serving.join()
    made.end()


def asked(address: tuple[str, int], path: str = "/") -> str:
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def doors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "door"]


def test_it_answers_on_every_socket_it_is_lent_and_on_its_own_and_says_which(server: Server) -> None:
    with socket.create_server(("127.0.0.2", 0)) as first, socket.create_server(("127.0.0.3", 0)) as second:
        with server.also_on(first), server.also_on(second):
            assert asked(first.getsockname(), "/a").split() == ["127.0.0.2", "127.0.0.1", "/a"]
            assert asked(second.getsockname(), "/b").split() == ["127.0.0.3", "127.0.0.1", "/b"]
            assert asked(("127.0.0.1", server.port), "/c").split() == ["127.0.0.1", "127.0.0.1", "/c"]
        assert doors() == []


def test_a_connection_made_there_serves_many_requests_and_is_cut_when_the_socket_is_taken_back(server: Server) -> None:
    with socket.create_server(("127.0.0.2", 0)) as lent:
        connection = http.client.HTTPConnection(*lent.getsockname(), timeout=5)
        with server.also_on(lent):
            for path in ("/1", "/2"):
                connection.request("GET", path)
                assert connection.getresponse().read().decode().endswith(path)
        assert connection.sock.recv(1) == b""
        connection.close()
        assert asked(("127.0.0.1", server.port), "/still").endswith("/still")


def test_taking_it_back_waits_for_a_request_that_is_being_answered(server: Server) -> None:
    threads = threading.active_count()
    with socket.create_server(("127.0.0.2", 0)) as lent:
        client = socket.create_connection(lent.getsockname(), timeout=5)
        with client:
            with server.also_on(lent):
                client.sendall(b"GET /held HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n")
                while not server.busy:
                    threading.Event().wait(0.005)
                threading.Timer(0.1, HELD.set).start()
            assert not server.busy
    assert threading.active_count() <= threads + 1  # the timer's own, for an instant


def test_the_socket_stays_its_owners(server: Server) -> None:
    with socket.create_server(("127.0.0.2", 0)) as lent:
        for path in ("/once", "/again"):
            with server.also_on(lent):
                assert asked(lent.getsockname(), path).endswith(path)
        with socket.create_connection(lent.getsockname()):
            lent.setblocking(True)
            taken, _ = lent.accept()
            taken.close()


@pytest.mark.parametrize("host", ["10.4.5.1:8080", "10.4.5.1", "169.254.170.2"])
def test_the_address_a_request_came_in_at_is_a_name_of_the_local_aws_and_no_other_is(host: str) -> None:
    """A page can point a name of its own anywhere, but not an address."""
    address = host.split(":", maxsplit=1)[0]
    assert is_own_address(host, address)
    assert not is_own_address(host, "127.0.0.1")
    assert not is_own_address("attacker.example:8080", address)
    assert not is_own_address("", "")
    assert not is_local_name(host)
