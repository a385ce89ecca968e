"""The door for one run outside Lambda: the event on standard input, the answer on standard output, the script's exit code as our own.

The log and what the script writes go to standard error, so that standard output holds exactly one JSON document.
"""

from __future__ import annotations

import secrets
import signal
import sys
from typing import Final

from faassupervisor import environ, function, leaving, reply
from faassupervisor.contract import ContractError, Failure, Reply
from faassupervisor.deadline import Deadline
from faassupervisor.log import Log, to_descriptor
from faassupervisor.modes import Here
from faassupervisor.record import Invocation
from faassupervisor.sandbox import Sandbox
from faassupervisor.supervise import supervise

_TOTAL_S: Final = 365 * 24 * 3600.0  # whoever started us sets the limit, by SIGTERM


def run(surroundings: environ.Surroundings) -> int:
    """0 when every record succeeded, else the first failed one's exit code."""
    leaving.raise_on_sigterm()
    request_id = surroundings.variables.get("AWS_BATCH_JOB_ID") or secrets.token_hex(16)
    try:
        answer = _answer(surroundings, request_id, sys.stdin.buffer.read())
    except leaving.Leave:
        return 128 + signal.SIGTERM
    to_descriptor(1)(reply.fitted(answer) + b"\n")
    return 0 if isinstance(answer, Reply) else answer.exit_code


def _answer(surroundings: environ.Surroundings, request_id: str, payload: bytes) -> Reply | Failure:
    write = to_descriptor(2)
    try:
        sandbox = Sandbox(surroundings, function.load(surroundings.function_root), mode=Here)
    except (ContractError, OSError) as error:
        return Failure("AgentFailed", str(error), request_id=request_id)
    spec = sandbox.function.spec
    log = Log(write, level=spec.log_level, request_id=request_id)
    return supervise(sandbox, Invocation(request_id, payload, Deadline(_TOTAL_S, spec.timeout_threshold_s)), log)
