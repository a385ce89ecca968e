"""The program that launchers call in place of ssh: `rsh.py SOCKET [options] host command…`. It has the main node's agent run the command.

Started as a file of its own by the user's processes, so it imports nothing of the agent. Standard input, output and error, signals and the
exit code are the remote command's; 255 with a message says that there was none, as ssh does. A command for the node we are on becomes this
process itself, and one for a host that is no node of the job becomes ssh, where the image has one. Frames: one letter (below), the length of the body (4 bytes, network order), the body.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys

CALL, INPUT, EOF, SIGNAL, GRANT = (
    b"C",
    b"I",
    b"E",
    b"S",
    b"G",
)  # to the agent: CALL is the host, a zero byte, the command
HERE, OUTPUT, ERROR, EXIT, REFUSED, UNKNOWN = (
    b"H",
    b"O",
    b"R",
    b"X",
    b"N",
    b"U",
)  # from the agent, and GRANT in both directions
HEADER = struct.Struct("!cI")
NUMBER = struct.Struct("!I")
WINDOW_BYTES = 256 * 1024  # of one stream, may be under way; then one waits to be granted more
CHUNK_BYTES = 32 * 1024
CALL_BYTES = 64 * 1024 - 1
FAILED = 255
_WITH_VALUE = frozenset("bBcDeEFiIJlLmoOpPQRSwW")  # ssh(1); rsh(1) has only -l
_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class UnusableError(Exception):
    """What to tell whoever called."""


class UnknownHostError(UnusableError):
    """No node of this job."""


def parsed(arguments: list[str]) -> tuple[str, str, bool]:
    """The host, the command as one line (arguments are joined by blanks, as ssh does), and whether input is not to be read."""
    host: str | None = None
    no_input = False
    rest = list(arguments)
    while rest and (host is None or rest[0].startswith("-")):
        word = rest.pop(0)
        if word == "--":
            if host is None and rest:
                host = rest.pop(0)
            break
        if not word.startswith("-") or word == "-":
            host = word.rpartition("@")[2]
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter in _WITH_VALUE:
                if at == len(word) and rest:
                    rest.pop(0)
                break
            no_input = no_input or letter == "n"
    if not host:
        raise UnusableError("usage: rsh [options] host command")
    if not rest:
        raise UnusableError("a command is needed: there are no logins")
    command = " ".join(rest)
    if len(os.fsencode(host)) + len(os.fsencode(command)) >= CALL_BYTES:
        raise UnusableError("a command may have 64 KiB")
    return host, command, no_input


def main(arguments: list[str]) -> int:
    try:
        address, *words = arguments
        host, command, no_input = parsed(words)
        with _connected(address) as agent:
            session = _Session(agent)
            session.send(CALL, os.fsencode(host) + b"\0" + os.fsencode(command))
            answer = session.run(no_input)
    except ValueError:
        return _failed("usage: rsh.py SOCKET [options] host command")
    except UnknownHostError as error:
        return _become_ssh(words, str(error))
    except UnusableError as error:
        return _failed(str(error))
    except FileNotFoundError:
        return _become_ssh(words, "only the main node of a job, while its script runs, starts commands on other nodes")
    except OSError as error:
        return _failed(f"the agent of this node does not answer: {error.strerror or error}")
    if answer is not None:
        return answer
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what it becomes would, too
        os.execv("/bin/sh", ["sh", "-c", command])  # noqa: S606  # what the caller asked for, as the caller
    except OSError as error:
        return _failed(f"/bin/sh: {error.strerror}")


def _become_ssh(words: list[str], otherwise: str) -> int:
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp("ssh", ["ssh", *words])  # noqa: S606  # the image's own, found as the caller would
    except OSError:
        return _failed(otherwise)


def _failed(message: str) -> int:
    sys.stderr.write(f"rsh: {message}\n")
    return FAILED


def _connected(address: str) -> socket.socket:
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory, name = os.path.split(address)
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        # An address of more than 107 bytes would not be taken (unix(7)).
        agent.connect(address if len(os.fsencode(address)) < 108 else f"/proc/self/fd/{folder}/{name}")
    finally:
        os.close(folder)
    return agent


class _Session:
    def __init__(self, agent: socket.socket) -> None:
        self._agent = agent
        self._received = bytearray()
        self._window = WINDOW_BYTES
        self._wake = -1

    def send(self, kind: bytes, body: bytes = b"") -> None:
        try:
            self._agent.sendall(HEADER.pack(kind, len(body)) + body)
        except BrokenPipeError:  # what it said last is still to be read
            return

    def run(self, no_input: bool) -> int | None:
        """The exit code; None when the command is to be run here."""
        signals = self._watch_signals()
        poll = select.poll()
        poll.register(self._agent, select.POLLIN)
        poll.register(signals, select.POLLIN)
        reading = False
        begun = False
        if no_input:
            self.send(EOF)
        while True:
            wants = begun and not no_input and self._window > 0
            if wants != reading:
                poll.register(0, select.POLLIN) if wants else poll.unregister(0)
                reading = wants
            ready = {descriptor for descriptor, _ in poll.poll()}
            if signals in ready:
                for number in os.read(signals, 64):
                    self.send(SIGNAL, NUMBER.pack(number))
            if self._agent.fileno() in ready:
                for kind, body in self._frames():
                    if kind == HERE:
                        self._forget_signals()
                        return None
                    begun = True
                    ended = self._take(kind, body)
                    if ended is not None:
                        return ended
            elif reading and 0 in ready:
                no_input = not self._read_input()

    def _take(self, kind: bytes, body: bytes) -> int | None:
        if kind in (OUTPUT, ERROR):
            _write(1 if kind == OUTPUT else 2, body)
            self.send(GRANT, NUMBER.pack(len(body)))
        elif kind == GRANT:
            self._window += NUMBER.unpack(body)[0]
        elif kind == UNKNOWN:
            raise UnknownHostError(body.decode(errors="replace"))
        elif kind == REFUSED:
            raise UnusableError(body.decode(errors="replace"))
        elif kind == EXIT:
            return int(NUMBER.unpack(body)[0])
        return None

    def _read_input(self) -> bool:
        try:
            chunk = os.read(0, min(CHUNK_BYTES, self._window))
        except OSError:  # closed by the caller
            chunk = b""
        self._window -= len(chunk)
        self.send(INPUT if chunk else EOF, chunk)
        return bool(chunk)

    def _frames(self) -> list[tuple[bytes, bytes]]:
        chunk = self._agent.recv(65536)
        if not chunk:
            raise UnusableError("the agent of this node has ended")
        self._received += chunk
        frames = []
        while len(self._received) >= HEADER.size:
            kind, size = HEADER.unpack_from(self._received)
            if len(self._received) < HEADER.size + size:
                break
            frames.append((kind, bytes(self._received[HEADER.size : HEADER.size + size])))
            del self._received[: HEADER.size + size]
        return frames

    def _watch_signals(self) -> int:
        """A descriptor that tells the numbers of signals."""
        reading, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in _PASSED_ON:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        return reading

    def _forget_signals(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in _PASSED_ON:
            signal.signal(number, signal.SIG_DFL)


def _write(descriptor: int, text: bytes) -> None:
    view = memoryview(text)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:  # nobody reads it any more: the command shall still end by itself
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
