"""What can go wrong for one record, as values that reach the caller. `kind` is the contract's word for it.

AgentError                  AgentFailed
├── BadEventError           BadEvent         the event, or one record of it, cannot be understood
├── StageInError            StageInFailed    the input object could not be brought here whole
│   └── NoRoomError         StageInFailed    it is larger than what is free on this machine's disk, or something else has filled that meanwhile
├── LoopError               LoopRefused      the input is made of an output of this very function: nothing runs
├── CannotStartError        ScriptFailed     the user's process could not be made (exit code 126 or 127, as a shell says it)
├── ScriptFailedError       ScriptFailed     the user's process ended with another code than 0, or by a signal
├── ScriptTimedOutError     ScriptTimedOut   the user's process was stopped at its deadline (exit code 124)
├── StageOutError           StageOutFailed   an output cannot or could not be published
├── HandOverError           HandOverFailed   the record could not be handed over to Batch, or its ledger entry not be read or written
├── AlreadyRunningError     AlreadyRunning   another attempt at this record is under way: come again when it has ended
├── GangError               GangFailed       the nodes of a multi-node parallel job did not come together, or one of them was lost
└── NotReusableError        AgentFailed      something of this run could not be removed: this sandbox must not serve another event
"""

from __future__ import annotations


class AgentError(Exception):
    """One failure of one record: a sentence for the caller, and the exit code that stands for it."""

    kind = "AgentFailed"

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class BadEventError(AgentError):
    kind = "BadEvent"


class StageInError(AgentError):
    kind = "StageInFailed"


class NoRoomError(StageInError):
    pass


class LoopError(AgentError):
    kind = "LoopRefused"


class CannotStartError(AgentError):
    kind = "ScriptFailed"


class ScriptFailedError(AgentError):
    kind = "ScriptFailed"


class ScriptTimedOutError(AgentError):
    kind = "ScriptTimedOut"

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=124)


class StageOutError(AgentError):
    """`published` are the URIs of outputs that were complete before this one failed."""

    kind = "StageOutFailed"

    def __init__(self, message: str, *, published: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.published = published


class HandOverError(AgentError):
    kind = "HandOverFailed"


class AlreadyRunningError(AgentError):
    kind = "AlreadyRunning"


class GangError(AgentError):
    kind = "GangFailed"


class NotReusableError(AgentError):
    pass
