"""The door of a Batch job: one record, taken over from Lambda by the ledger, and the script's exit code as the job's own.

    SCAR_TASK ─► claim ─► event ─► stage in ─► run ─► publishing ─► stage out ─► done

A job that another one has overtaken ends with 0 and publishes nothing. SIGTERM (a timeout, `scar terminate`, a machine that is taken
back) stops the script with all that it started; nothing is published then, and the exit code is 143. A further attempt starts anew.
Without SCAR_TASK the job was submitted by hand: EVENT is run as it is, and no ledger is asked.

Of a multi-node parallel job all of this is the main node's, with the gang around the run; the others go through a door of their own
(`nodes.worker`).
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from faassupervisor import contract, environ, function, leaving, reply
from faassupervisor.contract import ContractError, Failure, Reply, Task
from faassupervisor.deadline import Deadline
from faassupervisor.errors import AgentError
from faassupervisor.log import Log, to_descriptor
from faassupervisor.modes import Here, Mode
from faassupervisor.record import Invocation, Record
from faassupervisor.sandbox import Sandbox
from faassupervisor.supervise import supervise

if TYPE_CHECKING:
    from faassupervisor.function import Function
    from faassupervisor.nodes.crew import Crew
    from faassupervisor.nodes.node import Node

_TOTAL_S: Final = 365 * 24 * 3600.0  # Batch's own timeout sets the limit, by SIGTERM
_GRACE_S: Final = 20.0  # of the 30 s between SIGTERM and SIGKILL (batch/latest/userguide/job_timeouts)
_STOPPED: Final = Failure(
    "ScriptFailed", "the job was told to stop (SIGTERM); nothing was published", 128 + signal.SIGTERM
)
# What Lambda gives every process: a script is to sort and to tell the time alike in both.
# Source: lambda/latest/dg/configuration-envvars
_AS_IN_LAMBDA: Final = {"LANG": "en_US.UTF-8", "TZ": ":UTC"}
_SUMMARY_BYTES: Final = 200 * 1024  # one event of CloudWatch Logs may have 256 KiB in older regions


def run(surroundings: environ.Surroundings) -> int:
    """The job's exit code: the script's own; 143 after SIGTERM; 1 when it is the agent that fails."""
    leaving.raise_on_sigterm(_GRACE_S)
    write = to_descriptor(1)
    surroundings = dataclasses.replace(surroundings, variables={**_AS_IN_LAMBDA, **surroundings.variables})
    crew: Crew | None = None
    try:
        node = _node(surroundings.variables)
        if node is not None and not node.is_main:
            from faassupervisor.nodes import worker

            return worker.run(surroundings, node, write)
        if node is not None:
            from faassupervisor.nodes.crew import Crew

            crew = Crew(node)
        answer = _answer(surroundings, crew, Log(write))
    except leaving.Leave:
        answer = (crew.ended("") if crew else None) or _STOPPED
    except (AgentError, ContractError, OSError) as error:
        answer = Failure("AgentFailed", str(error))
    except Exception as error:  # noqa: BLE001  # a door: a defect of the agent fails this job, visibly
        answer = Failure("AgentFailed", f"{type(error).__name__}: {error}")
    if crew is not None:
        leaving.stay()
        crew.close(answer)
    code = 0 if isinstance(answer, Reply) else answer.exit_code
    Log(write, request_id=answer.request_id).note("job ended", exit_code=code)
    write(_summary(answer) + b"\n")
    return code


def _node(variables: Mapping[str, str]) -> Node | None:
    """Which node of a multi-node parallel job this is; None in every other job, which imports nothing of that."""
    if "AWS_BATCH_JOB_NUM_NODES" not in variables:
        return None
    from faassupervisor.nodes.node import node_of

    return node_of(variables)


def _answer(surroundings: environ.Surroundings, crew: Crew | None, log: Log) -> Reply | Failure:
    variables = surroundings.variables
    job_id = variables.get("AWS_BATCH_JOB_ID", "").partition("#")[0]  # without a node's index
    task = Task.from_json(variables[contract.TASK]) if contract.TASK in variables else None
    loaded = function.load(surroundings.function_root)
    log = Log(log.write, level=loaded.spec.log_level, request_id=task.request_id if task else job_id)
    if task is not None:
        return _of_task(surroundings, loaded, task, crew, log)
    log.note("job started", job_id=job_id)
    event = variables.get(contract.EVENT, "{}").encode(errors="surrogateescape")
    mode: Callable[[Sandbox], Mode] = Here if crew is None else lambda sandbox: _ByHand(sandbox, crew)
    return supervise(Sandbox(surroundings, loaded, mode=mode), Invocation(job_id, event, Deadline(_TOTAL_S, 0)), log)


class _ByHand(Here):
    """The mode of a multi-node job that was submitted by hand."""

    def __init__(self, sandbox: Sandbox, crew: Crew) -> None:
        super().__init__(sandbox)
        self._aws, self._crew = sandbox.aws, crew

    def received(self, invocation: Invocation, log: Log) -> Invocation:
        from faassupervisor import state

        self._crew.open(state.of(self._aws), log)
        return super().received(invocation, log)

    def treat(self, record: Record) -> None:
        with ExitStack() as left:
            record.publish(record.work(left, {}, self._crew))


def _of_task(
    surroundings: environ.Surroundings, loaded: Function, task: Task, crew: Crew | None, log: Log
) -> Reply | Failure:
    from faassupervisor.mode_job import InJob

    sandbox = Sandbox(surroundings, loaded, mode=lambda sandbox: InJob(sandbox, task, crew))
    job = sandbox.mode
    assert isinstance(job, InJob)
    try:
        answer = supervise(sandbox, Invocation(task.request_id, b"", Deadline(_TOTAL_S, 0)), log)
    except leaving.Leave:
        answer = job.stopped() or dataclasses.replace(_STOPPED, request_id=task.request_id)
    leaving.stay()  # how it ended is decided
    job.close(answer, log)
    return answer


def _summary(answer: Reply | Failure) -> bytes:
    """One line. What the script wrote is in the log already."""
    runs = tuple(dataclasses.replace(run, output="") for run in answer.runs)
    return reply.fitted(dataclasses.replace(answer, runs=runs), _SUMMARY_BYTES)
