"""How does a command come by a running local AWS? Start it once, find it again, stop it, throw it away.

The daemon is another process (`scar.local.daemon`); nothing here imports moto or botocore, so `scar --local` starts as fast as `scar`.
Whether a daemon lives is asked of the kernel (flock), never concluded from a pid or a file.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scar import __version__
from scar.errors import ConflictError, ScarError, TimedOutError
from scar.local.state import ALREADY_RUNNING, Lock, State, is_locked, read_json

__all__ = ["Endpoint", "State", "Status", "down", "ensure_up", "log_lines", "reset", "status"]

_POLL_S = 0.02
_children: list[
    subprocess.Popen[bytes]
] = []  # daemons this process started: they outlive it, but are its to reap while it lives


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the local AWS listens."""

    url: str
    port: int
    pid: int
    version: str
    started: float  # seconds since 1970
    iam: bool = False  # whether IAM is enforced


@dataclass(frozen=True, slots=True)
class Status:
    """What a running daemon says of itself. `functions` is the Lambda engine's own report; `engine` says what was `asked` for and,
    once a function has run, the `name` of what runs them, its `isolation`, and why others were `passed_over`; `batch` counts what Batch has."""

    endpoint: Endpoint
    uptime_s: float
    resident_mib: int
    state_bytes: int
    buckets: int
    objects: int
    not_kept: Mapping[str, str]  # services whose state will be gone after a restart → why
    engine: Mapping[str, Any]
    functions: Mapping[str, Any]
    batch: Mapping[str, Any]


def ensure_up(
    folder: Path,
    *,
    port: int = 0,
    engine: str = "auto",
    iam: bool | None = None,
    wait_s: float = 20.0,
    tell: Callable[[str], None] = lambda _: None,
    environ: Mapping[str, str] | None = None,
) -> Endpoint:
    """Answer the running daemon of `folder`, starting it when there is none. Any number of callers at once get the same one.

    `port` 0 keeps the port of last time when it is free. A daemon that another version of SCAR started is ended and started anew, and
    so is one that enforces IAM where it should not, or the other way round (`iam`; None: as it was last time). Raises
    ScarError with the daemon's own last lines when it does not come up.
    """
    state = State(folder)
    state.prepare()
    deadline = time.monotonic() + wait_s
    child = None
    while True:
        if (found := _alive(state)) is not None:
            _dismiss(child, found)
            if found.version == __version__ and iam in (None, found.iam):
                return found
            if found.version == __version__:
                tell(
                    f"the running local AWS {'enforces IAM' if found.iam else 'does not enforce IAM'}: starting it anew"
                )
            else:
                tell(f"the running local AWS is of SCAR {found.version}: ending it")
            down(folder)
            child = None
        if child is None and not is_locked(state):
            tell(f"starting the local AWS ({folder})")
            child = _spawn(state, port, engine, environ, iam=iam)
        if child is not None and child.poll() is not None:
            if child.returncode == ALREADY_RUNNING:  # another caller's won the lock between our look and our start
                child = None
                continue
            raise _start_failure(state, f"The local AWS stopped with exit code {child.returncode} while starting.")
        if time.monotonic() > deadline:
            if child is not None:
                child.terminate()
            raise TimedOutError(
                f"The local AWS did not answer within {wait_s:g} s.", where=str(state.log_file), fix=_tail(state)
            )
        time.sleep(_POLL_S)


def _dismiss(child: subprocess.Popen[bytes] | None, found: Endpoint) -> None:
    """A daemon that lost the race for the lock would take over, unasked, when the winner is stopped soon."""
    if child is not None and child.pid != found.pid:
        child.terminate()
        child.wait()


def _alive(state: State) -> Endpoint | None:
    if not is_locked(state):
        return None
    found = _address(state)
    # The file may still be a killed daemon's while its successor already answers on the same port.
    return found if found is not None and _says_its_pid(found) else None


def _address(state: State) -> Endpoint | None:
    document = read_json(state.address_file)
    if not isinstance(document, dict):
        return None
    try:
        return Endpoint(
            url=f"http://127.0.0.1:{int(document['port'])}",
            port=int(document["port"]),
            pid=int(document["pid"]),
            version=str(document["version"]),
            started=float(document["started"]),
            iam=bool(document.get("iam")),  # an older daemon does not say
        )
    except (KeyError, TypeError, ValueError):
        return None


def _spawn(
    state: State, port: int, engine: str, environ: Mapping[str, str] | None, *, iam: bool | None
) -> subprocess.Popen[bytes]:
    argv = [
        sys.executable,
        "-m",
        "scar.local.daemon",
        "--state",
        str(state.folder),
        "--port",
        str(port),
        "--engine",
        engine,
        *([] if iam is None else ["--iam", "on" if iam else "off"]),
    ]
    with state.log_file.open("ab") as log:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=None if environ is None else dict(environ),
        )
    _children.append(child)
    return child


def _start_failure(state: State, what: str) -> ScarError:
    return ScarError(what, where=str(state.log_file), fix=_tail(state))


def _tail(state: State) -> str:
    return "\n  ".join(log_lines(state.folder, 12)) or "Its log is empty."


def _ask(endpoint: Endpoint, path: str, *, timeout_s: float) -> Any:
    """The daemon's answer as a document, or None when there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(1 << 20)
        return json.loads(body) if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def status(folder: Path) -> Status | None:
    """What the daemon of `folder` says of itself; None when none is running."""
    state = State(folder)
    if not is_locked(state) or (endpoint := _address(state)) is None:
        return None
    document = _ask(endpoint, "/_scar/status", timeout_s=10.0)
    if document is None:
        return None
    return Status(
        endpoint=endpoint,
        uptime_s=time.time() - endpoint.started,
        resident_mib=document["resident_mib"],
        state_bytes=document["state_bytes"],
        buckets=document["buckets"],
        objects=document["objects"],
        not_kept=document["not_kept"],
        engine=document["engine"],
        functions=document["functions"],
        batch=document.get("batch", {}),  # an older daemon may still run
    )


def down(folder: Path, wait_s: float = 30.0) -> bool:
    """Ask the daemon to save and end, and wait until it has. Answers False when none was running."""
    state = State(folder)
    if not is_locked(state):
        return False
    deadline = time.monotonic() + wait_s
    asked: int | None = None
    while is_locked(state):
        # A pid is trusted only while the daemon that wrote it holds the lock and answers with it.
        endpoint = _address(state)
        if endpoint is not None and endpoint.pid != asked and _says_its_pid(endpoint):
            with contextlib.suppress(ProcessLookupError):
                os.kill(endpoint.pid, signal.SIGTERM)
            asked = endpoint.pid
        if time.monotonic() > deadline:
            raise TimedOutError(f"The local AWS has not ended within {wait_s:g} s.", where=str(state.log_file))
        time.sleep(_POLL_S)
    for child in _children:
        child.poll()
    return True


def _says_its_pid(endpoint: Endpoint) -> bool:
    document = _ask(endpoint, "/_scar/ping", timeout_s=2.0)
    return isinstance(document, dict) and document.get("pid") == endpoint.pid


def reset(folder: Path, wait_s: float = 30.0) -> None:
    """Stop the daemon and remove all it kept. Refuses a folder that no local AWS made."""
    state = State(folder)
    if not folder.exists():
        return
    if not state.is_ours():
        raise ConflictError(f"{folder} was not made by the local AWS; it is left alone.")
    down(folder, wait_s)
    lock = Lock.take(state)
    if lock is None:
        raise ConflictError(f"Another local AWS was started on {folder} meanwhile.", fix="Run the command again.")
    try:
        state.remove()
    finally:
        lock.release()


def log_lines(folder: Path, count: int) -> Sequence[str]:
    """The last `count` lines of the daemon's own log."""
    path = State(folder).log_file
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 64 * 1024))
            return log.read().decode("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return ()
