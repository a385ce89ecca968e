"""How the user's process is made, watched and ended. `process` runs it as a child of the agent, in the agent's own container.

What `run` of every runner promises:

1. It answers how the process ended, as a value; CannotStartError says that there was no process.
2. Every line of standard output and error reaches the log while the process runs, and the last part is in the answer.
3. When it answers, nothing of the process's tree is left, whatever it forked, detached or ignored; else NotReusableError.
4. The process gets the given environment and no other, and none of the agent's open files.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import assert_never


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
