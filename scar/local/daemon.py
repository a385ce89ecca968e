"""The local AWS as a process: `python -m scar.local.daemon --state DIR --port N`.

It listens on 127.0.0.1, and inside networks of its own sandboxes; it writes where to `daemon.json` once everything is restored, and ends on SIGTERM after saving.
Exit codes: 0 ended as asked, 1 could not start, 3 another daemon has this state.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import logging.handlers
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scar import __version__
from scar.errors import ConflictError, ScarError
from scar.local import late
from scar.local.journal import open_anew
from scar.local.state import ALREADY_RUNNING, LAYOUT, Lock, State, StateDamagedError, sweep_unfinished, write_atomically

if TYPE_CHECKING:
    from scar.local.iam.authority import Authority
    from scar.local.parts import Build, Parts
    from scar.local.s3_keys import Keys
    from scar.local.sandbox.spec import Serve
    from scar.local.services import Services

_LOG_BYTES: Final = 4 * 1024 * 1024
_LOCK_PATIENCE_S: Final = 1.0  # whoever only looks whether a daemon lives holds the lock for an instant
_HOUSEKEEPING_S: Final = 1.0
_LISTENS_EVERY_S: Final = 0.5
_log = logging.getLogger("scar.local")


def main(argv: Sequence[str], build: Build) -> int:
    """Run a daemon until it is told to end; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scar.local.daemon", description="The local AWS.")
    parser.add_argument("--state", type=Path, required=True, help="folder to keep everything in")
    parser.add_argument("--port", type=int, default=0, help="0: as last time, or any free one")
    parser.add_argument("--engine", default="auto", help="what runs containers")
    parser.add_argument("--iam", choices=("on", "off"), help="whether IAM is enforced (default: as last time)")
    args = parser.parse_args(argv)
    state = State(args.state.absolute())
    try:
        state.prepare()
        lock = _take_lock(state)
        if lock is None:
            sys.stderr.write(f"{state.folder}: another local AWS is running on this state.\n")
            return ALREADY_RUNNING
        with contextlib.closing(_Released(lock)):
            _log_to(state.log_file)
            _adopt(state)
            iam = _remembered(state, args.iam)
            Daemon(state, port=args.port, engine=args.engine, build=build, iam=iam).run()
    except ScarError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{_unusable(state, error)}\n")
        return 1
    return 0


def _unusable(state: State, error: OSError) -> ConflictError:
    what = f"The local AWS cannot use its state: {error.strerror or error}."
    return ConflictError(
        what,
        where=str(error.filename or state.folder),
        fix="Nothing was changed. Mend what is in the way, and run the command again.",
    )


class _Released:
    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def close(self) -> None:
        self._lock.release()


def _take_lock(state: State) -> Lock | None:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while (lock := Lock.take(state)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return lock


def _adopt(state: State) -> None:
    """Bring what an earlier SCAR left into the form of today."""
    if state.layout < LAYOUT:
        for path in (*state.keys.glob("keys.*.journal"), *(state.folder / "batch" / "jobs").glob("*.journal")):
            open_anew(path)
        state.mark()


def _remembered(state: State, asked: str | None) -> bool:
    """Whether IAM is enforced: as asked, which is remembered, or as it was last time."""
    if asked is not None:
        write_atomically(state.iam_file, f"{asked}\n".encode())
    try:
        said = state.iam_file.read_bytes()
    except FileNotFoundError:
        return False
    if said not in (b"on\n", b"off\n"):  # a guess could turn it off
        raise StateDamagedError(state.iam_file, "The file does not say whether IAM is enforced.")
    return said == b"on\n"


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for noisy in ("botocore", "urllib3", "werkzeug"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class Daemon:
    """Everything that runs in the process, put together. `build` makes the Lambda engine and the registry."""

    def __init__(self, state: State, *, port: int, engine: str, build: Build, iam: bool = False) -> None:
        self._state, self._wanted_port, self._engine, self._build = state, port, engine, build
        self._iam = iam
        self._authority: Authority | None = None
        self._started = time.time()
        self._stop = threading.Event()
        self._endpoint = ""
        self._also_on: Serve | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; whatever was begun is finished and saved before this returns."""
        _raise_file_limit()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        with contextlib.ExitStack() as stack:
            with late.without_garbage():
                self._start(stack)
            # A signal may be given to any thread, and Python's handler runs in this one: asleep for good, it would not hear of it.
            while not self._stop.wait(_LISTENS_EVERY_S):
                pass
            _log.info("stopping")
        _log.info("stopped")

    def _start(self, stack: contextlib.ExitStack) -> None:
        # moto is imported here, after the lock is ours and the log is open
        from scar.local import bucket_policy, hooks, instance_profiles, managed_policies, paths, s3_store
        from scar.local.batch.door import Door
        from scar.local.bodies import Bodies
        from scar.local.front import Front
        from scar.local.http import hooks as http_hooks
        from scar.local.http.door import Endpoints
        from scar.local.iam.authority import Authority
        from scar.local.iam.door import Door as IamDoor
        from scar.local.logs import LogSink
        from scar.local.parts import Around
        from scar.local.s3_events import Events, Sequencer
        from scar.local.s3_keys import Keys
        from scar.local.server import Server
        from scar.local.services import Services

        late.install()
        self._state.address_file.unlink(missing_ok=True)  # of a daemon that was killed
        hooks.check()
        for folder in (self._state.services, self._state.keys):
            sweep_unfinished(folder)
        bodies = Bodies(self._state.objects)
        keys, services = Keys(self._state.keys, bodies), Services(self._state.services)
        logs = LogSink(self._state.logs, made_group=lambda: services.save(["logs"]))
        self._authority = authority = Authority() if self._iam else None
        parts = self._build(
            self._state,
            Around(lambda: self._endpoint, logs, services.save, self._engine, services.wake, self._serve, authority),
        )
        functions, batch = parts.functions, parts.batch
        events = Events(functions, Sequencer(self._state.keys / "sequence"))
        front = Front(
            bodies=bodies,
            keys=keys,
            services=services,
            events=events,
            registry=parts.registry,
            batch=None if batch is None else Door(batch.answer),
            changed=(lambda _: None) if batch is None else batch.changed,
            own=lambda page, authorization: self._page(page, authorization, keys, services, parts),
            iam=None if authority is None else IamDoor(authority, parts.registry_key),
            endpoints=Endpoints(functions, authority=authority, wake=services.wake),
        )
        s3_store.install(bodies, front.settle_alone)
        for corrected in (bucket_policy, managed_policies, instance_profiles, paths, logs, services, events):
            corrected.install()
        http_hooks.install(lambda: self._endpoint)
        functions.install()
        services.load()
        keys.load()
        logs.load()
        stack.callback(keys.close)
        stack.callback(logs.flush)
        server = self._listen(Server, front)
        stack.callback(server.end)
        self._also_on = server.also_on
        self._endpoint = f"http://127.0.0.1:{server.port}"
        functions.start()
        stack.callback(functions.stop)
        if batch is not None:
            batch.start()
            stack.callback(batch.stop)
        keys.begin()
        self._keep_house(stack, (logs.flush, bodies.bury, front.settle_left, services.save_soon, keys.tidy))
        threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
        stack.callback(server.shutdown)
        self._announce(stack, server.port)

    def _serve(self, listening: socket.socket) -> contextlib.AbstractContextManager[None]:
        assert self._also_on is not None, "nothing is served before the daemon listens"
        return self._also_on(listening)

    def _listen(self, make: Callable[..., Any], front: Any) -> Any:
        """The port asked for; else the one of last time, so that what is configured with it keeps working; else any."""
        last = _number_in(self._state.port_file)
        for port in [self._wanted_port] if self._wanted_port else [last, 0]:
            try:
                return make(port, front)
            except OSError as error:
                refused = error
        raise ConflictError(
            f"Port {self._wanted_port} cannot be used: {refused.strerror}.",
            fix="Choose another, or none for any free one.",
        )

    def _announce(self, stack: contextlib.ExitStack, port: int) -> None:
        write_atomically(self._state.port_file, f"{port}\n".encode())
        address = {
            "pid": os.getpid(),
            "port": port,
            "version": __version__,
            "started": self._started,
            "engine": self._engine,
            "iam": self._iam,
        }
        write_atomically(self._state.address_file, json.dumps(address).encode())
        stack.callback(self._state.address_file.unlink, missing_ok=True)
        _log.info("listening on %s (%s)", self._endpoint, __version__)

    def _keep_house(self, stack: contextlib.ExitStack, chores: Sequence[Callable[[], None]]) -> None:
        ended = threading.Event()

        def work() -> None:
            over = False
            while not over:
                over = ended.wait(_HOUSEKEEPING_S)  # once more at the end
                if not self._state.lock_file.exists():  # removed by hand: what is answered from now on would be lost
                    _log.error("%s is gone: ending", self._state.folder)
                    self._stop.set()
                    return
                for chore in chores:
                    try:
                        chore()
                    except OSError as error:  # a full disk, most likely: it may have room again next time
                        _log.error("%s has to wait: %s", chore.__qualname__, error)

        thread = threading.Thread(target=work, name="housekeeping", daemon=True)
        thread.start()
        stack.callback(thread.join, 30.0)
        stack.callback(ended.set)

    def _page(self, page: str, authorization: str | None, keys: Keys, services: Services, parts: Parts) -> Any:
        """What `/_scar/<page>` says; None when there is no such page."""
        if page == "ping":
            return {"pid": os.getpid(), "version": __version__}
        if page.startswith("batch/") and parts.batch is not None:
            return parts.batch.page(page.removeprefix("batch/"), authorization)
        if page == "iam" and self._authority is not None:
            return {"calls": self._authority.calls()}
        if page != "status":
            return None
        from moto.s3.models import s3_backends

        return {
            "pid": os.getpid(),
            "version": __version__,
            "iam": self._iam,
            "engine": {"asked": self._engine, **parts.engine()},
            "uptime_s": round(time.time() - self._started, 3),
            "resident_mib": _resident_mib(),
            "state_bytes": _size(self._state.folder),
            "buckets": len(s3_backends.bucket_accounts),
            "objects": len(keys),
            "not_kept": services.not_kept,
            "functions": parts.functions.status(),
            "batch": {} if parts.batch is None else parts.batch.status(),
        }


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _resident_mib() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // (1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_size
    return total


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    from scar.local.parts import lambda_and_registry

    sys.exit(main(sys.argv[1:], lambda_and_registry))
