"""A process and all that came from it: watched and stopped as one, also what detached itself with `setsid` or a double fork.

The agent makes itself the *child subreaper* (prctl(2)): orphans of the tree become its children instead of leaving. So "no child is
left" means that the whole tree is gone, which costs one system call to ask. Without ctypes there are no orphans to adopt, and
what left both the tree and its session is out of reach.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final

from faassupervisor.errors import NotReusableError

_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_KILL_LIMIT_S: Final = 5.0


def become_keeper() -> bool:
    """Adopt orphans from now on, and hide this process's memory and environment from processes of the same user.

    False when this Python has no ctypes or the kernel refuses.
    """
    try:
        import ctypes
    except ImportError:
        return False
    prctl = ctypes.CDLL(None).prctl
    if not _is_traced():  # PRoot could not follow us any more
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # /proc/<agent>/environ holds the Runtime API's address
    return bool(prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _is_traced() -> bool:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    return "TracerPid:\t0\n" not in status


class Tree:
    """All that descends from `leader`, the leader included. `complete` says that orphans come to us (see `become_keeper`)."""

    def __init__(self, leader: subprocess.Popen[bytes], *, complete: bool) -> None:
        self._leader = leader
        self._complete = complete

    def stop(self, grace_s: float) -> None:
        """End every process of the tree: SIGTERM, up to `grace_s` to obey, then SIGKILL; collect them all.

        Raises NotReusableError when something survives even that for five seconds.
        """
        if not self._left():
            return
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)  # a stopped process sees SIGTERM only when it goes on
        if self._gone_within(grace_s, None):
            return
        self._send(signal.SIGSTOP)  # a shell that outlives its child by a moment would still say "Killed"
        if not self._gone_within(_KILL_LIMIT_S, signal.SIGKILL):
            raise NotReusableError("processes of the script could not be killed; this sandbox is given up")

    def _gone_within(self, limit_s: float, number: signal.Signals | None) -> bool:
        end = time.monotonic() + limit_s
        pause_s = 0.001
        while True:
            if number is not None:
                self._send(number)  # again in each round: what forked meanwhile is hit by the next one
            if not self._left():
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.02)

    def _left(self) -> bool:
        return self._reap() or (not self._complete and bool(_members(self._leader.pid)))

    def _reap(self) -> bool:
        """Collect every child that has ended, the leader by its own handle; whether any child is left."""
        try:
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == self._leader.pid:
                    self._leader.poll()
                else:
                    os.waitpid(ended.si_pid, 0)
        except ChildProcessError:
            return False
        return True

    def _send(self, number: signal.Signals) -> None:
        for process in _members(self._leader.pid):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)


def ended_children() -> list[int]:
    """Children of ours, adopted ones too, that have ended and wait to be collected."""
    ended: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                text = (entry / "stat").read_bytes()
                state, parent, _ = text[text.rindex(b")") + 2 :].split(b" ", 2)
                if state == b"Z" and int(parent) == os.getpid():
                    ended.append(int(entry.name))
    return ended


def _members(session: int) -> list[int]:
    """Living processes that descend from this one or belong to `session`."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            text = (entry / "stat").read_bytes()
            # The name may contain anything, so count from its closing bracket: state, parent, group, session.
            state, parent, _, its_session = text[text.rindex(b")") + 2 :].split(b" ", 4)[:4]
            children[int(parent)].append(int(entry.name))
            if int(its_session) == session and state not in b"ZX":
                found.add(int(entry.name))
    pending = list(children[os.getpid()])
    while pending:
        process = pending.pop()
        found.add(process)
        pending += children[process]
    return list(found)
