"""The process's arguments and environment, read once at the door into a record, and written never.

Lambda reuses a sandbox: whatever is put into `os.environ` for one caller would be found by the next one's run. So the user's
process gets an environment that is built as a value (`for_process`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faassupervisor import contract

USAGE: Final = "usage: app [--event -] [--function DIR] [--tmp DIR]"
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PRIVATE_NAMES: Final = frozenset(
    {
        "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_EXEC_WRAPPER", "_HANDLER", "_X_AMZN_TRACE_ID",
        contract.STATE, contract.JOB_QUEUE, contract.JOB_DEFINITION, contract.JOB_NODES, contract.TASK, contract.GANG,
        contract.NODE_ADDRESS,
    }
)  # fmt: skip
# The interpreter's and the loader's settings are the agent's own; the user's come with the image's and the function's environment.
_PRIVATE_PREFIXES: Final = ("LAMBDA_", "PYTHON", "LD_", "AWS_LAMBDA_METADATA_")
# Outside the image these speak of the machine that the agent runs on: of Lambda's managed runtime, and the shell that started us.
_OF_THE_MACHINE: Final = frozenset({"PATH", "NODE_PATH", "GEM_PATH", "PWD", "OLDPWD", "SHLVL", "_"})
_LANG_OF_MANAGED_RUNTIMES: Final = "en_US.UTF-8"  # lambda/latest/dg/configuration-envvars; few images have this locale
_COERCED_LOCALES: Final = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})  # PEP 538
_PER_RECORD: Final = frozenset(
    {
        contract.INPUT_FILE_PATH, contract.TMP_INPUT_DIR, contract.TMP_OUTPUT_DIR, contract.STORAGE_OBJECT_KEY, contract.EVENT_TIME,
        contract.EVENT, contract.REQUEST_ID, contract.AWS_LAMBDA_REQUEST_ID, contract.EVENT_FILE, contract.SCAR_FUNCTION,
        contract.SCAR_BUCKET, contract.SCAR_SEQUENCER, contract.ATTEMPT, contract.IDEMPOTENCY_KEY, contract.HOSTFILE, contract.NUM_NODES,
        contract.NODE_INDEX, contract.MAIN_HOST, contract.HTTP_METHOD, contract.HTTP_PATH,
    }
)  # fmt: skip


class UsageError(ValueError):
    """The arguments do not fit together."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the process found when it started.

    `runtime_api` is the address of Lambda's Runtime API or None; `event_on_stdin` asks for one run outside Lambda; `in_job` says that
    AWS Batch started us.
    `temporary` is where private directories are made; `owns_temporary` says that nobody else uses it, so that
    whatever a run leaves there may be removed. `fakechroot` holds the libraries of the zip runtime.
    """

    variables: Mapping[str, str]
    function_root: Path
    fakechroot: Path
    temporary: Path
    owns_temporary: bool
    runtime_api: str | None
    event_on_stdin: bool
    in_job: bool = False


def read(arguments: Sequence[str], variables: Mapping[str, str], app: Path) -> Surroundings:
    """Arguments without the program's name. `app` is the directory that holds this package: the function layer lies beside it.

    On the local machine's `host` engine the layers lie anywhere and `/tmp` is everybody's, so TMPDIR is obeyed there; in an image
    `/tmp` is this sandbox's own.
    """
    runtime_api = variables.get("AWS_LAMBDA_RUNTIME_API") or None
    options = _options(arguments) if not runtime_api or "--function" in arguments or "--tmp" in arguments else {}
    temporary = options.get("--tmp")
    in_image = app == Path(contract.AGENT_ROOT, "app")
    common = "/tmp" if in_image else variables.get("TMPDIR") or "/tmp"  # noqa: S108  # Lambda's only writable directory
    function_root = Path(options.get("--function") or app.parent / "function")
    return Surroundings(
        variables=_given(variables),
        function_root=function_root,
        fakechroot=function_root.parent / "fakechroot",
        temporary=Path(temporary or common),
        owns_temporary=temporary is not None or in_image,
        runtime_api=runtime_api,
        event_on_stdin="--event" in options,
        in_job=contract.TASK in variables or "AWS_BATCH_JOB_ID" in variables,
    )


def _given(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Without the LC_CTYPE that Python gives itself where no locale is named (PEP 538): we were started without it."""
    if variables.get("LC_CTYPE") not in _COERCED_LOCALES:
        return dict(variables)
    try:
        started_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:  # an image's own is in the spec
        started_with = []
    ours = not any(variable.startswith(b"LC_CTYPE=") for variable in started_with)
    return {name: value for name, value in variables.items() if not (ours and name == "LC_CTYPE")}


def found(variables: Mapping[str, str]) -> Mapping[str, str]:
    """What this process was given: where no locale is set, Python adds LC_CTYPE to its own environment (PEP 538)."""
    try:
        given = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return variables
    if any(variable.startswith(b"LC_CTYPE=") for variable in given):
        return variables
    return {name: value for name, value in variables.items() if name != "LC_CTYPE"}


def _options(arguments: Sequence[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    rest = iter(arguments)
    for name in rest:
        value = next(rest, None)
        if name not in {"--event", "--function", "--tmp"} or value is None or (name == "--event" and value != "-"):
            raise UsageError(USAGE)
        options[name] = value
    return options


def for_process(variables: Mapping[str, str], spec: contract.Spec, record: Mapping[str, str]) -> dict[str, str]:
    """The environment of the user's process; later ones win: the image's, the Lambda function's, the spec's, the record's.

    The agent's own variables stay out, and so does any of the contract's names that this record does not set.
    `PATH` and `HOME` are always there. Outside the image (`spec.root`) nothing of the machine's own settings comes through.
    """
    environment = dict(spec.image.environment)
    own_path = environment.get("PATH")
    environment.update((name, value) for name, value in variables.items() if _is_public(name, value, spec))
    if own_path:
        environment["PATH"] = own_path  # where the image keeps its programs, whatever started the agent
    environment.update(spec.environment)
    for name in _PER_RECORD:
        environment.pop(name, None)
    environment.update(record)
    environment.setdefault("PATH", DEFAULT_PATH)
    home = environment.get("HOME", "")
    writable = home.startswith("/tmp/") if spec.root else home and os.access(home, os.W_OK)  # noqa: S108
    if not writable:
        environment["HOME"] = "/tmp"  # noqa: S108  # Lambda's only writable directory
    return environment


def _is_public(name: str, value: str, spec: contract.Spec) -> bool:
    if spec.root and (name in _OF_THE_MACHINE or (name == "LANG" and value == _LANG_OF_MANAGED_RUNTIMES)):
        return False
    return name not in _PRIVATE_NAMES and not name.startswith(_PRIVATE_PREFIXES)


def instance_ip() -> str:
    """This machine's own address as its routes choose it; nothing is sent. 127.0.0.1 without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
