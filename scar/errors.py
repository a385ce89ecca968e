"""Everything that can go wrong, as values: what, where, and the next move. `cli` alone turns them into exit codes.

ScarError                 1
├── UsageError            2    flags that do not fit together
├── FdlError              2    a definition file is wrong; carries every problem, each at its place
├── NotFoundError         3    a function, bucket or object that is not there
├── DeniedError           4    no credentials, or they may not do this
├── ConflictError         5    exists already in another's hands, or a limit is reached
├── ServiceError          6    AWS (or a registry) failed or throttled
├── TimedOutError       124    waited as long as was asked
└── RunFailedError   1..255    the user's script failed: its own exit code
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

CHANGES: Final = 20  # of `scar plan --detailed-exitcode`
INTERRUPTED: Final = 130
KILLED: Final = (137, 143)

# Every exit code of ours and what it means: docs/reference/exit-codes.md shows this table.
EXIT_CODES: Final[Mapping[tuple[int, ...], str]] = {
    (0,): "done",
    (1,): "failed, without a more precise code",
    (2,): "the command line or a definition file is wrong; nothing was changed",
    (3,): "a function, bucket, object, run or job is not there",
    (4,): "no credentials, or they do not allow this",
    (5,): "it exists already in another's hands, a limit is reached, or `scar cancel` was asked to cancel what runs",
    (6,): "AWS or a registry failed or throttled",
    (CHANGES,): "`scar plan -f FILE --detailed-exitcode`: there is something to change",
    (124,): "time was up: of the wait, or of the run",
    (INTERRUPTED,): "interrupted; what was only watched goes on",
    KILLED: "killed",
    (141,): "whoever read the output left",
}


class ScarError(Exception):
    """One failure, told so that its reader knows what to do.

    `where` is a place (`file:line:column`, a key path, an ARN) or None; `fix` is the next move, a full sentence, or None.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.fix}" if self.fix else text


class UsageError(ScarError):
    exit_code = 2


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault of a definition file. `path` is the key path (`functions.aws[0].lambda.memory`).

    `line` and `column` count from 1; line 0 means that there is no place to show (a value from the command line, a missing file).
    """

    file: str
    line: int
    column: int
    path: str
    what: str
    fix: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = f"{place}: {self.path}: {self.what}" if self.path else f"{place}: {self.what}"
        return f"{text}\n  {self.fix}" if self.fix else text


class FdlError(ScarError):
    """A definition file that cannot be used: `problems` holds all of them in file order."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NotFoundError(ScarError):
    exit_code = 3


class DeniedError(ScarError):
    exit_code = 4


class ConflictError(ScarError):
    exit_code = 5


class ServiceError(ScarError):
    exit_code = 6


class TimedOutError(ScarError):
    exit_code = 124


class RunFailedError(ScarError):
    """The user's script failed. `exit_code` is the script's own, `last_lines` what it said at the end."""

    def __init__(self, what: str, *, exit_code: int, last_lines: Sequence[str] = (), fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.exit_code = exit_code
        self.last_lines = tuple(last_lines)
