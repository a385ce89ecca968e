"""How the user's process is made, watched and ended. `RUNNERS` has one line for each kind; one is made for every record.

process       as a child of the agent, in the agent's own container
fakechroot    the same, with the image's files as its `/`: for an agent that does not run inside the image

What `run` of every runner promises:

1. It answers how the process ended, as a value; CannotStartError says that there was no process.
2. Every line of standard output and error reaches the log while the process runs, and the last part is in the answer.
3. When it answers, nothing of the process's tree is left, whatever it forked, detached or ignored; else NotReusableError.
4. The process gets the given environment and no other, and none of the agent's open files. (`fakechroot` adds the variables that
   make it work.)

`real` answers which file a name means to the process, None when it means none; `visible` answers a script's path as the process
sees it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, assert_never

from faassupervisor.log import Log

if TYPE_CHECKING:
    from faassupervisor.contract import Spec
    from faassupervisor.roots.inside import Inside
    from faassupervisor.runners.command import Command
    from faassupervisor.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Exited:
    """It ended by itself, with this code."""

    code: int
    log: str


@dataclass(frozen=True, slots=True)
class OutOfTime:
    """It was stopped because its time was over, `after_s` seconds from its start."""

    after_s: float
    log: str


@dataclass(frozen=True, slots=True)
class Killed:
    """A signal that we did not send ended it: a crash, or the kernel when memory ran out."""

    signal: int
    log: str


Exit = Exited | OutOfTime | Killed


@dataclass(frozen=True, slots=True)
class Setting:
    """Where one record's process will run: the function, the record's private place, and, for `fakechroot`, the image's files
    and the folder with the libraries.
    """

    spec: Spec
    place: Workspace
    log: Log
    inside: Inside | None
    libraries: Path


class Runner(Protocol):
    def real(self, name: str, /) -> str | None: ...

    def visible(self, script: Path, /) -> Path: ...

    def run(
        self,
        command: Command,
        *,
        environment: Mapping[str, str],
        time_s: Callable[[], float],
        grace_s: Callable[[], float],
        adopts_orphans: bool,
    ) -> Exit: ...


Kind = Literal["process", "fakechroot"]


def _process(setting: Setting) -> Runner:
    from faassupervisor.runners.process import Process

    return Process(setting)


def _fakechroot(setting: Setting) -> Runner:
    from faassupervisor.runners.fakechroot import Fakechroot

    return Fakechroot(setting)


RUNNERS: Final[Mapping[Kind, Callable[[Setting], Runner]]] = {"process": _process, "fakechroot": _fakechroot}


def exit_code(exit_: Exit) -> int:
    """As a shell tells it."""
    match exit_:
        case Exited(code=code):
            return code
        case OutOfTime():
            return 124
        case Killed(signal=number):
            return 128 + number
        case _:
            assert_never(exit_)


def describe(exit_: Exit) -> str:
    """A sentence for the caller."""
    match exit_:
        case Exited(code=code):
            return f"script exited with code {code}"
        case OutOfTime(after_s=after_s):
            return f"script was stopped after {after_s:.1f} s: the function's time was over"
        case Killed(signal=number):
            name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
            hint = " (possibly out of memory)" if number == signal.SIGKILL else ""
            return f"script was killed by {name}{hint}"
        case _:
            assert_never(exit_)
