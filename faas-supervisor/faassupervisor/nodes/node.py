"""Which node of which gang is this? Read once from the variables that Batch gives every node of a multi-node parallel job.

Source: batch/latest/userguide/job_env_vars. Only child nodes are told the main node's address. What AWS_BATCH_JOB_ID is on a node is not
documented: the job's own id and `<job id>#<node index>`, as DescribeJobs names a node, are both taken.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from faassupervisor import contract, environ
from faassupervisor.errors import AgentError

_COUNT: Final = "AWS_BATCH_JOB_NUM_NODES"
_INDEX: Final = "AWS_BATCH_JOB_NODE_INDEX"
_MAIN: Final = "AWS_BATCH_JOB_MAIN_NODE_INDEX"
_MAIN_ADDRESS: Final = "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"
_JOB: Final = "AWS_BATCH_JOB_ID"
_ATTEMPT: Final = "AWS_BATCH_JOB_ATTEMPT"

MOST_NODES: Final = 1000  # batch/latest/userguide/mnp-node-groups
_JOB_ID: Final = re.compile(r"[A-Za-z0-9-]{1,128}")  # becomes part of an object's key
_WHOLE: Final = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `job_id` is the whole job's; with `attempt` it names the gang. `main_address` is None on the main node itself."""

    index: int
    count: int
    main: int
    job_id: str
    attempt: int
    address: str
    main_address: str | None
    gang: contract.Gang

    @property
    def is_main(self) -> bool:
        return self.index == self.main


def node_of(variables: Mapping[str, str]) -> Node | None:
    """None in a job of one container. Raises AgentError for variables that cannot be a node's."""
    if _COUNT not in variables:
        return None
    count = _number(variables, _COUNT, least=1, most=MOST_NODES)
    index = _number(variables, _INDEX, least=0, most=count - 1)
    main = _number(variables, _MAIN, least=0, most=count - 1)
    job_id = variables.get(_JOB, "").partition("#")[0]
    if not _JOB_ID.fullmatch(job_id):
        raise AgentError(f"{_JOB}={variables.get(_JOB)!a}: the id of a Batch job was expected")
    given = variables.get(contract.NODE_ADDRESS)
    return Node(
        index=index,
        count=count,
        main=main,
        job_id=job_id,
        attempt=_number(variables, _ATTEMPT, least=1, most=1000) if _ATTEMPT in variables else 1,
        address=environ.instance_ip() if given is None else _address(contract.NODE_ADDRESS, given),
        main_address=None if index == main else _address(_MAIN_ADDRESS, variables.get(_MAIN_ADDRESS, "")),
        gang=_gang(variables.get(contract.GANG)),
    )


def is_ipv4(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):  # ValueError: a character of no address
        return False
    return True


def _number(variables: Mapping[str, str], name: str, *, least: int, most: int) -> int:
    text = variables.get(name, "")
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise AgentError(f"{name}={text!a}: a whole number from {least} to {most} was expected")
    return int(text)


def _address(name: str, text: str) -> str:
    if not is_ipv4(text):
        raise AgentError(f"{name}={text!a}: an IPv4 address was expected")
    return text


def _gang(text: str | None) -> contract.Gang:
    if text is None:
        return contract.Gang()
    try:
        return contract.Gang.from_json(text)
    except contract.ContractError as error:
        raise AgentError(f"{contract.GANG}: {error}") from error
