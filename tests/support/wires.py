"""Networks that misbehave: a wire that is slow or cut, and a proxy that lets through only whom it knows."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

_PIECE = 16 << 10


class Listener:
    """Accepts connections on a loopback port and serves each in a thread; a base for what follows."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.hang_up()
        self._thread.join(5)

    def hang_up(self) -> None:
        """End all connections now."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._served, args=(client,), daemon=True).start()

    def _served(self, client: socket.socket) -> None:
        self._open.add(client)
        with client, contextlib.suppress(OSError):
            self.serve(client)
        self._open.discard(client)

    def join(
        self, client: socket.socket, server: socket.socket, up: Callable[[int], None], down: Callable[[int], None]
    ) -> None:
        """Both directions until one side ends; `up` and `down` see how many bytes pass and may raise OSError to cut."""
        self._open.add(server)
        back = threading.Thread(target=self._copy, args=(server, client, down), daemon=True)
        back.start()
        self._copy(client, server, up)
        back.join()
        self._open.discard(server)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, watch: Callable[[int], None]) -> None:
        try:
            while piece := source.recv(_PIECE):
                watch(len(piece))
                target.sendall(piece)
        except OSError:
            pass
        finally:
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


class Wire(Listener):
    """To `target` and back, counted; `cut_up` and `cut_down` end the connection once, when so many more bytes have passed."""

    def __init__(self, target: str, *, up_bytes_per_s: float | None = None) -> None:
        self._target, self._pace = target, up_bytes_per_s
        self.up_bytes = self.down_bytes = 0
        self.cut_up: int | None = None
        self.cut_down: int | None = None
        self._lock = threading.Lock()
        super().__init__()

    def serve(self, client: socket.socket) -> None:
        name, _, port = self._target.rpartition(":")
        with socket.create_connection((name, int(port))) as server:
            self.join(client, server, self._up, self._down)

    def _up(self, count: int) -> None:
        if self._pace:
            time.sleep(count / self._pace)
        with self._lock:
            self.up_bytes += count
            if self.cut_up is not None and self.up_bytes > self.cut_up:
                self.cut_up = None
                raise ConnectionAbortedError

    def _down(self, count: int) -> None:
        with self._lock:
            self.down_bytes += count
            if self.cut_down is not None and self.down_bytes > self.cut_down:
                self.cut_down = None
                raise ConnectionAbortedError


class Proxy(Listener):
    """An HTTP proxy that makes tunnels (CONNECT), wherever they are asked for, to `target`."""

    def __init__(self, target: str, *, login: str | None = None) -> None:
        self._target, self._login = target, login
        self.asked: list[str] = []
        super().__init__()

    def serve(self, client: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(4096)
        line, *headers = request.decode().split("\r\n")
        self.asked.append(line.split()[1])
        if self._login is not None:
            wanted = "proxy-authorization: basic " + base64.b64encode(self._login.encode()).decode()
            if not any(header.lower() == wanted.lower() for header in headers):
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
        name, _, port = self._target.rpartition(":")
        with socket.create_connection((name, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.join(client, server, lambda count: None, lambda count: None)
