"""What the CLI and the agent agree on: the one module that both import (standard library only).

Functions deployed last year run last year's agent, so every document carries `schema`, and the golden documents in
`tests/contract/v1/` are read by both sides for ever. Adding an optional field keeps the number; anything else raises it.

Where things live inside a function's image (an uploader can name none of these):

    /opt/scar/             the agent layer: interpreter, libraries, certificates, agent
    /opt/scar/function/    the function layer: `spec.json` and, if there is one, `script`
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

SCHEMA: Final = 1

AGENT_ROOT: Final = "/opt/scar"
FUNCTION_ROOT: Final = f"{AGENT_ROOT}/function"
SPEC_PATH: Final = f"{FUNCTION_ROOT}/spec.json"
SCRIPT_PATH: Final = f"{FUNCTION_ROOT}/script"

Mode = Literal["lambda", "lambda-batch", "batch"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)


class ContractError(ValueError):
    """A document of the contract is malformed or newer than this reader."""


@dataclass(frozen=True, slots=True)
class Storage:
    """One place that files come from or go to.

    `provider` is `TYPE` or `TYPE.ID` (`s3`, `minio.lab`); `folder` has no slash at either end and is '' for the bucket's root.
    A file matches when its name starts with one of `prefix` and ends with one of `suffix`; an empty tuple matches every file.
    """

    provider: str
    bucket: str
    folder: str = ""
    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """Storage that the function's own role does not reach: `name` is `TYPE.ID` (`minio.lab`), as `Storage.provider` has it.

    `secret` names the SSM parameter (a SecureString) that holds its credentials as a JSON object of strings: they are nowhere else. `endpoint` is a
    URL, '' for the kind's own (S3 itself). `verify` False takes any certificate; `private` allows addresses of private networks.
    """

    name: str
    secret: str
    endpoint: str = ""
    region: str = ""
    verify: bool = True
    private: bool = False


@dataclass(frozen=True, slots=True)
class ImageProcess:
    """What the user's image itself says about its process, remembered because the agent took its place as ENTRYPOINT."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class RootLayer:
    """One layer of a root file system: a gzip-compressed tar of `size` bytes that hash to `digest` (`sha256:…`)."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class RootFilesystem:
    """The user's image for an agent that does not run inside it (the zip runtime): unpacked below `/tmp`, run through fakechroot.

    `digest` is that of the image's manifest. `layers` (lowest first) come from `source`: `s3://bucket/prefix`, where a layer is the
    object `prefix/<64 hex digits>`, or `https://host/v2/repository`, a registry that needs no credentials. They unpack to
    `unpacked_bytes`. `loader` is the image's own dynamic loader (`/lib64/ld-linux-x86-64.so.2`), `glibc` its version (`2.36`).
    """

    digest: str
    layers: tuple[RootLayer, ...]
    source: str
    unpacked_bytes: int
    loader: str
    glibc: str


@dataclass(frozen=True, slots=True)
class Spec:
    """One function, as the agent sees it: `spec.json` in the function layer.

    `has_script` tells whether `script` lies beside the spec; without it the image's own command runs.
    `environment` is for the user's process only. `timeout_threshold_s` is kept back before the deadline for uploads and the reply.
    `root` is None where the agent runs inside the user's image. With `spill` what is too large for a call goes through the state bucket
    (see `Reference`); without, it is a failure that names the limit.
    """

    name: str
    mode: Mode = "lambda"
    has_script: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Storage, ...] = ()
    outputs: tuple[Storage, ...] = ()
    timeout_threshold_s: int = 10
    log_level: str = "INFO"
    image: ImageProcess = ImageProcess()
    root: RootFilesystem | None = None
    spill: bool = True
    providers: tuple[Provider, ...] = ()
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        """The document as bytes: sorted keys, so that equal specs give equal layers. Optional fields with their defaults are left out."""
        return _encode(self, root=None, spill=True, providers=())

    @classmethod
    def from_json(cls, text: bytes | str) -> Spec:
        """Read a document of this or an older schema; raises ContractError."""
        raw = _decode(text, "function spec")
        mode = _string(raw, "mode", "lambda")
        if mode not in MODES:
            raise ContractError(f"function spec: mode {mode!r} is not one of {', '.join(MODES)}")
        image = _mapping(raw, "image")
        return cls(
            name=_string(raw, "name"),
            mode=mode,
            has_script=bool(raw.get("has_script", False)),
            environment=_environment(raw, "environment"),
            inputs=tuple(_storage(item) for item in raw.get("inputs", ())),
            outputs=tuple(_storage(item) for item in raw.get("outputs", ())),
            timeout_threshold_s=int(raw.get("timeout_threshold_s", 10)),
            log_level=_string(raw, "log_level", "INFO"),
            image=ImageProcess(
                entrypoint=_strings(image, "entrypoint"),
                command=_strings(image, "command"),
                environment=_environment(image, "environment"),
                working_directory=_string(image, "working_directory", ""),
                user=_string(image, "user", ""),
            ),
            root=_root(raw.get("root")),
            spill=bool(raw.get("spill", True)),
            providers=tuple(_provider(item) for item in raw.get("providers", ())),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one record of an event.

    `key` is the object's key, None when no object was involved. `outputs` are the URIs that were published: `s3://bucket/key`, or
    `minio.lab://bucket/key` and the like at a storage provider's.
    `exit_code` follows the shell: 128 + n for signal n; 124 for a run that was stopped at its deadline.
    `output` is what the process wrote (standard output and error, in order), shortened to its last part when it was long.
    `job_id` names the Batch job that has taken the record over: what becomes of it is the job's to tell, and nothing was published here.
    """

    key: str | None
    exit_code: int
    outputs: tuple[str, ...] = ()
    output: str = ""
    seconds: float = 0.0
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a successful invocation answers. `skipped` says why a record started nothing (a test event, a deletion)."""

    request_id: str
    runs: tuple[Run, ...] = ()
    skipped: tuple[str, ...] = ()
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        fields = dataclasses.asdict(self)
        fields["runs"] = [_run_document(run) for run in fields["runs"]]
        return _dumped(fields)

    @classmethod
    def from_json(cls, text: bytes | str) -> Reply:
        raw = _decode(text, "reply")
        return cls(
            request_id=_string(raw, "request_id"),
            runs=tuple(_run(item) for item in raw.get("runs", ())),
            skipped=_strings(raw, "skipped"),
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed invocation answers, in the shape of Lambda's error document.

    Lambda passes `errorType`, `errorMessage` and `stackTrace` on to the caller; the rest rides along and is optional for a reader.
    `kind` is `ScriptFailed`, `ScriptTimedOut`, `StageInFailed`, `StageOutFailed`, `BadEvent`, `LoopRefused`, `HandOverFailed`,
    `AlreadyRunning`, `GangFailed` or `AgentFailed`.
    """

    kind: str
    message: str
    exit_code: int = 1
    last_lines: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()
    request_id: str = ""
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        document = {
            "errorType": self.kind,
            "errorMessage": self.message,
            "stackTrace": list(self.last_lines),
            "exit_code": self.exit_code,
            "request_id": self.request_id,
            "runs": [_run_document(dataclasses.asdict(run)) for run in self.runs],
            "schema": self.schema,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes | str) -> Failure:
        """Read any Lambda error document: fields that only this agent writes may be absent."""
        raw = _decode(text, "error document", versioned=False)
        return cls(
            kind=_string(raw, "errorType", "Unknown"),
            message=_string(raw, "errorMessage", ""),
            exit_code=int(raw.get("exit_code", 1)),
            last_lines=_strings(raw, "stackTrace"),
            runs=tuple(_run(item) for item in raw.get("runs", ())),
            request_id=_string(raw, "request_id", ""),
        )


@dataclass(frozen=True, slots=True)
class Reference:
    """Bytes that were too large to be sent along: `size` of them lie at `uri` (`s3://bucket/key`) and hash to `sha256` (hex).

    As a payload of its own it is the document `{"scar:payload": {"uri": …, "size": …, "sha256": …}}`, which only SCAR writes. A reader
    takes it only from its own function's part of the state bucket, and only if size and digest are as said.
    """

    uri: str
    size: int
    sha256: str

    def to_payload(self) -> bytes:
        return _dumped({REFERENCE_KEY: dataclasses.asdict(self)})

    @classmethod
    def of_payload(cls, document: object) -> Reference | None:
        """None when the parsed payload is something else. Raises ContractError for one that is malformed."""
        if not isinstance(document, dict) or document.keys() != {REFERENCE_KEY}:
            return None
        raw = _mapping(document, REFERENCE_KEY)
        size = raw.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ContractError("reference: size: a number of bytes was expected")
        return cls(_string(raw, "uri"), size, _string(raw, "sha256"))


REFERENCE_KEY: Final = "scar:payload"


@dataclass(frozen=True, slots=True)
class Task:
    """What one Batch job is asked to do: one record of an event. Its JSON is the value of SCAR_TASK in the job's environment.

    `request_id` is that of the invocation which was asked first. `run` is the record's identity, the last part of its ledger entry's key
    (64 hex digits; see `ledger`); `epoch` counts the hand-overs of that entry. The record's event is either in `event` (text) or
    at `reference`.
    """

    function: str
    request_id: str
    run: str
    epoch: int
    event: str | None = None
    reference: Reference | None = None
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        fields = dataclasses.asdict(self)
        return _dumped({name: value for name, value in fields.items() if value is not None})

    @classmethod
    def from_json(cls, text: bytes | str) -> Task:
        raw = _decode(text, "task")
        event = raw.get("event")
        reference = Reference.of_payload({REFERENCE_KEY: raw["reference"]}) if "reference" in raw else None
        if (event is None) == (reference is None) or not (event is None or isinstance(event, str)):
            raise ContractError("task: exactly one of event (text) and reference was expected")
        epoch = raw.get("epoch")
        if not isinstance(epoch, int):
            raise ContractError("task: epoch: a number was expected")
        return cls(
            function=_string(raw, "function"),
            request_id=_string(raw, "request_id"),
            run=_string(raw, "run"),
            epoch=epoch,
            event=event,
            reference=reference,
        )


@dataclass(frozen=True, slots=True)
class Gang:
    """What one node of a multi-node parallel job has to know beforehand. Its JSON is the value of SCAR_GANG in the definition of its range.

    `slots` is how many processes may be started on this node (0: none). The main node waits `start_timeout_s` for all others.
    `input_on_workers`: every node stages the record's input in, not the main node alone. `script_on_workers`: every node runs the function's
    script, which then tells the nodes apart itself, as scripts for SCAR 4 do. Whatever they do, only the main node publishes.
    """

    slots: int = 1
    start_timeout_s: int = 600
    input_on_workers: bool = False
    script_on_workers: bool = False
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        return _dumped(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: bytes | str) -> Gang:
        raw = _decode(text, "gang")
        numbers = {name: raw.get(name, default) for name, default in (("slots", 1), ("start_timeout_s", 600))}
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ContractError(f"gang: {name}: a number was expected")
        return cls(
            slots=numbers["slots"],
            start_timeout_s=numbers["start_timeout_s"],
            input_on_workers=bool(raw.get("input_on_workers", False)),
            script_on_workers=bool(raw.get("script_on_workers", False)),
        )


# What the agent finds in its own environment: where it stands, which is not in the image. The user's process sees none of these.
STATE: Final = "SCAR_STATE"  # `s3://bucket/functions/NAME/`: the function's part of the state bucket
JOB_QUEUE: Final = "SCAR_JOB_QUEUE"  # name or ARN; in Lambda only
JOB_DEFINITION: Final = "SCAR_JOB_DEFINITION"  # name; in Lambda only
JOB_NODES: Final = "SCAR_JOB_NODES"  # `targetNodes` of the one node that gets the task, where jobs are multi-node parallel; in Lambda only
TASK: Final = "SCAR_TASK"  # a Task as JSON; in a Batch job only, of a multi-node one on the main node only
GANG: Final = "SCAR_GANG"  # a Gang as JSON; in a multi-node parallel job only
NODE_ADDRESS: Final = (
    "SCAR_NODE_ADDRESS"  # IPv4: a node's own address, where the local AWS cannot give it a network of its own
)

# Below STATE
LEDGER_FOLDER: Final = "ledger/"  # one object a record: LEDGER_FOLDER + its identity
SPILL_FOLDER: Final = "spill/"  # what was too large to be sent along: SPILL_FOLDER + its SHA-256
GANG_FOLDER: Final = (
    "gangs/"  # where the nodes of a job find each other: GANG_FOLDER + job id + "/" + attempt + "/" + node index
)


def job_name(function: str, run: str, epoch: int) -> str:
    """The one name of one hand-over: at most 128 letters, digits, `-` and `_`, the first a letter (botocore batch:SubmitJobRequest.jobName)."""
    return f"scar-{function}-{run[:32]}-{epoch}"


def job_names_of(function: str) -> str:
    """All job names of a function begin with this (and those of a function whose name begins with this one's and a dash)."""
    return f"scar-{function}-"


# What the user's process finds in its environment. The first block is the predecessor's and stays for ever.
INPUT_FILE_PATH: Final = "INPUT_FILE_PATH"  # the staged input file; absent when the event names no object
TMP_INPUT_DIR: Final = "TMP_INPUT_DIR"  # private directory of this record, holds the input file
TMP_OUTPUT_DIR: Final = "TMP_OUTPUT_DIR"  # what is written here is published when the exit code is 0
STORAGE_OBJECT_KEY: Final = "STORAGE_OBJECT_KEY"  # decoded key of the object
EVENT_TIME: Final = "EVENT_TIME"  # as the producer wrote it
EVENT: Final = "EVENT"  # this record's event as JSON; absent when too long for one environment string
REQUEST_ID: Final = "REQUEST_ID"
AWS_LAMBDA_REQUEST_ID: Final = "AWS_LAMBDA_REQUEST_ID"
INSTANCE_IP: Final = "INSTANCE_IP"
EVENT_FILE: Final = "SCAR_EVENT_FILE"  # file that always holds the event as JSON
SCAR_FUNCTION: Final = "SCAR_FUNCTION"
SCAR_BUCKET: Final = "SCAR_BUCKET"
SCAR_SEQUENCER: Final = "SCAR_SEQUENCER"
HTTP_METHOD: Final = "SCAR_HTTP_METHOD"
HTTP_PATH: Final = "SCAR_HTTP_PATH"
QUERY_PREFIX: Final = "CONT_VAR_"  # and a query parameter's name: its last value; the name is SCAR 4's
ATTEMPT: Final = "SCAR_ATTEMPT"  # 1 for the first time that this record runs, 2 for the next …; in the batch modes
IDEMPOTENCY_KEY: Final = "SCAR_IDEMPOTENCY_KEY"  # the same for every attempt at this record; in the batch modes

# In a multi-node parallel job, on every node
HOSTFILE: Final = "SCAR_HOSTFILE"  # a line for each node, the main node's first: `address slots=N`
NUM_NODES: Final = "SCAR_NUM_NODES"
NODE_INDEX: Final = "SCAR_NODE_INDEX"
MAIN_HOST: Final = "SCAR_MAIN_HOST"  # the main node's address


# Metadata of every object that is published to S3: which functions the content has been through, oldest first, joined by commas. So a loop that
# goes through Batch, or through events that AWS does not trace, is seen by the function that it comes back to.
LINEAGE: Final = "scar-lineage"
MOST_HOPS: Final = 32  # functions in a row; what has been through more is refused


def _encode(document: Spec, **optional: object) -> bytes:
    """Without the optional fields that have the value they have by default: an older reader knows nothing of them."""
    fields = dataclasses.asdict(document)
    return _dumped({name: value for name, value in fields.items() if name not in optional or value != optional[name]})


def _run_document(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name != "job_id" or value is not None}


def _dumped(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _decode(text: bytes | str, what: str, *, versioned: bool = True) -> Mapping[str, Any]:
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ContractError(f"{what}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ContractError(f"{what}: a JSON object was expected, got {type(raw).__name__}")
    if versioned:
        schema = raw.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise ContractError(f"{what}: no schema number")
        if schema > SCHEMA:
            raise ContractError(f"{what}: schema {schema} is newer than this reader's {SCHEMA}; update this side")
    return raw


def _mapping(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise ContractError(f"{key}: a JSON object was expected")
    return value


def _string(raw: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = raw.get(key, default)
    if not isinstance(value, str):
        raise ContractError(f"{key}: a string was expected")
    return value


def _strings(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = raw.get(key) or ()
    if isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise ContractError(f"{key}: a list of strings was expected")
    return tuple(value)


def _environment(raw: Mapping[str, Any], key: str) -> Mapping[str, str]:
    value = _mapping(raw, key)
    if not all(isinstance(item, str) for item in value.values()):
        raise ContractError(f"{key}: every value must be a string")
    return dict(value)


def _storage(raw: Mapping[str, Any]) -> Storage:
    return Storage(
        provider=_string(raw, "provider"),
        bucket=_string(raw, "bucket"),
        folder=_string(raw, "folder", ""),
        prefix=_strings(raw, "prefix"),
        suffix=_strings(raw, "suffix"),
    )


def _provider(raw: Mapping[str, Any]) -> Provider:
    return Provider(
        name=_string(raw, "name"),
        secret=_string(raw, "secret"),
        endpoint=_string(raw, "endpoint", ""),
        region=_string(raw, "region", ""),
        verify=bool(raw.get("verify", True)),
        private=bool(raw.get("private", False)),
    )


def _root(raw: object) -> RootFilesystem | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise ContractError("root: a JSON object was expected")
    return RootFilesystem(
        digest=_string(raw, "digest"),
        layers=tuple(RootLayer(_string(item, "digest"), int(item["size"])) for item in raw.get("layers", ())),
        source=_string(raw, "source"),
        unpacked_bytes=int(raw.get("unpacked_bytes", 0)),
        loader=_string(raw, "loader"),
        glibc=_string(raw, "glibc"),
    )


def _run(raw: Mapping[str, Any]) -> Run:
    key, job_id = raw.get("key"), raw.get("job_id")
    return Run(
        key=key if isinstance(key, str) else None,
        exit_code=int(raw.get("exit_code", 1)),
        outputs=_strings(raw, "outputs"),
        output=_string(raw, "output", ""),
        seconds=float(raw.get("seconds", 0.0)),
        job_id=job_id if isinstance(job_id, str) else None,
    )
