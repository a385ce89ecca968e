"""Lambda's control plane: what CreateFunction, UpdateFunctionConfiguration, UpdateFunctionCode and AddPermission do not accept.

Texts follow AWS's. Source of the rules: botocore's Lambda model and lambda/latest/dg/gettingstarted-limits; numbers: scar.limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote

from scar.limits import (
    ENVIRONMENT_NAME_PATTERN,
    FUNCTION_DESCRIPTION_CHARS,
    FUNCTION_NAME_PATTERN,
    LAMBDA_ENVIRONMENT_BYTES,
    LAMBDA_LAYERS,
    LAMBDA_MEMORY_MIB,
    LAMBDA_TIMEOUT_S,
    LAMBDA_TMP_MIB,
    RESERVED_ENVIRONMENT,
)
from scar.local.address import Caller
from scar.local.refusal import RefusalError
from scar.local.services import as_json

Environ = dict[str, Any]
Asked = dict[str, Any]

# 50 MB of zip, which travels as base64; the number AWS names (github.com/localstack/localstack/pull/2999)
ZIP_REQUEST_BYTES: Final = 69_905_067
HANDLER_PATTERN: Final = r"\S{1,128}"
MOUNT_PATTERN: Final = r"/mnt/[a-zA-Z0-9-_.]+"
STATEMENT_PATTERN: Final = r"[a-zA-Z0-9-_]{1,100}"
ARCHITECTURES: Final = ("x86_64", "arm64")
BLOCKED_RUNTIMES: Final = (
    "python2.7",
    "python3.6",
    "python3.7",
)  # lambda/latest/dg/lambda-runtimes: those surely blocked

_CREATE: Final = re.compile(r"/20\d\d-\d\d-\d\d/functions/?")
_LAYER: Final = re.compile(r"/20\d\d-\d\d-\d\d/layers/[^/]+/versions/?")
_PART: Final = re.compile(
    r"/20\d\d-\d\d-\d\d/functions/(?P<function>[^/]+)/(?P<part>configuration|code|policy|versions)/?"
)


def check(environ: Environ, content: bytes, who: Caller) -> None:
    method, path, asked = environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), as_json(content)
    if method == "POST" and _CREATE.fullmatch(path):
        _check_size("CreateFunction", content)
        _raise_first((*_CREATION, *_CONFIGURATION), asked)
        _check_role(asked)
    elif method == "POST" and _LAYER.fullmatch(path):
        _check_size("PublishLayerVersion", content)
    elif found := _PART.fullmatch(path):
        if method == "PUT" and found["part"] == "configuration":
            _raise_first(_CONFIGURATION, asked)
            if "Role" in asked:
                _check_role(asked)
        elif method == "PUT" and found["part"] == "code":
            _check_size("UpdateFunctionCode", content)
            _raise_first((_architectures,), asked)
        elif method == "POST" and found["part"] == "policy":
            _check_statement(asked, unquote(found["function"]), environ, who)
        elif method == "POST" and found["part"] == "versions":
            _check_published(asked, unquote(found["function"]), environ, who)


def _raise_first(checks: Sequence[Callable[[Asked], Iterator[RefusalError]]], asked: Asked) -> None:
    for found in checks:
        for refusal in found(asked):
            raise refusal


def _invalid(what: str) -> RefusalError:
    return RefusalError(400, "InvalidParameterValueException", what)


def _violation(field: str, value: Any, constraint: str) -> RefusalError:
    what = f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: {constraint}"
    return RefusalError(400, "ValidationException", what)


def _range(field: str, wire: str, bounds: tuple[int, int]) -> Callable[[Asked], Iterator[RefusalError]]:
    def found(asked: Asked) -> Iterator[RefusalError]:
        value = asked.get(wire)
        if value is not None and not (isinstance(value, int) and bounds[0] <= value):
            yield _violation(field, value, f"Member must have value greater than or equal to {bounds[0]}")
        elif value is not None and value > bounds[1]:
            yield _violation(field, value, f"Member must have value less than or equal to {bounds[1]}")

    return found


def _name(asked: Asked) -> Iterator[RefusalError]:
    # an ARN or `account:function:name` is taken too; its last part is the name
    name = str(asked.get("FunctionName", "")).rpartition(":")[2]
    if not re.fullmatch(FUNCTION_NAME_PATTERN, name):
        yield _violation("functionName", name, "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]{1,64}")


def _package(asked: Asked) -> Iterator[RefusalError]:
    if asked.get("PackageType", "Zip") == "Image":
        if asked.get("Runtime") or asked.get("Handler"):
            yield _invalid(
                "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
            )
        if asked.get("Layers"):
            yield _invalid(
                "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
            )
        if not asked.get("Code", {}).get("ImageUri"):
            yield _invalid("Please provide ImageUri when creating an image based function.")
        return
    for field in ("Runtime", "Handler"):
        if not asked.get(field):
            yield _invalid(f"{field} is mandatory for functions created with deployment packages.")
    code = asked.get("Code") or {}
    if not code.get("ZipFile") and not (code.get("S3Bucket") and code.get("S3Key")):
        yield _invalid("Please provide a source for function code.")
    if asked.get("ImageConfig"):
        yield _invalid("ImageConfig is supported only for functions with packageType Image.")


def _check_size(operation: str, content: bytes) -> None:
    if len(content) > ZIP_REQUEST_BYTES:
        what = f"Request must be smaller than {ZIP_REQUEST_BYTES} bytes for the {operation} operation"
        raise RefusalError(413, "RequestEntityTooLargeException", what)


def _architectures(asked: Asked) -> Iterator[RefusalError]:
    found = asked.get("Architectures")
    if found is not None and (len(found) != 1 or found[0] not in ARCHITECTURES):
        constraint = f"Member must have length 1 and satisfy enum value set: {list(ARCHITECTURES)}"
        yield _violation("architectures", found, constraint)


def _runtime(asked: Asked) -> Iterator[RefusalError]:
    runtime = asked.get("Runtime")
    if runtime is not None and runtime not in (known := _runtimes()):
        yield _invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: {sorted(known)} "
            "or be a valid ARN"
        )
    if runtime in BLOCKED_RUNTIMES:
        yield _invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions."
        )


def _runtimes() -> frozenset[str]:
    from moto.core.utils import get_service_model

    return frozenset(get_service_model("lambda").shape_for("Runtime").enum)


def _handler(asked: Asked) -> Iterator[RefusalError]:
    handler = asked.get("Handler")
    if handler and not re.fullmatch(HANDLER_PATTERN, handler):
        yield _violation(
            "handler", handler, "Member must satisfy regular expression pattern: [^\\s]+ and be at most 128 long"
        )


def _description(asked: Asked) -> Iterator[RefusalError]:
    description = asked.get("Description") or ""
    if len(description) > FUNCTION_DESCRIPTION_CHARS:
        constraint = f"Member must have length less than or equal to {FUNCTION_DESCRIPTION_CHARS}"
        yield _violation("description", description, constraint)


def _environment(asked: Asked) -> Iterator[RefusalError]:
    variables = (asked.get("Environment") or {}).get("Variables") or {}
    opening = (
        "Lambda was unable to configure your environment variables because the environment variables you have provided"
    )
    for name in variables:
        if not re.fullmatch(ENVIRONMENT_NAME_PATTERN, name):
            pattern = "[a-zA-Z]([a-zA-Z0-9_])+"
            yield _violation(
                "environment.variables", name, f"Map keys must satisfy regular expression pattern: {pattern}"
            )
    if reserved := sorted(RESERVED_ENVIRONMENT & set(variables)):
        yield _invalid(
            f"{opening} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    size = sum(len(name.encode()) + len(str(value).encode()) for name, value in variables.items())
    if size > LAMBDA_ENVIRONMENT_BYTES:
        yield _invalid(f"{opening} exceeded the 4KB limit. {size} bytes were counted.")


def _tmp(asked: Asked) -> Iterator[RefusalError]:
    storage = asked.get("EphemeralStorage") or {}
    yield from _range("ephemeralStorage.size", "Size", LAMBDA_TMP_MIB)(storage)


def _layers(asked: Asked) -> Iterator[RefusalError]:
    if len(asked.get("Layers") or ()) > LAMBDA_LAYERS:
        yield _invalid(f"Cannot reference more than {LAMBDA_LAYERS} layers.")


def _file_systems(asked: Asked) -> Iterator[RefusalError]:
    systems = asked.get("FileSystemConfigs") or ()
    if len(systems) > 1:
        yield _violation("fileSystemConfigs", len(systems), "Member must have length less than or equal to 1")
    for system in systems:
        path = str(system.get("LocalMountPath", ""))
        if not re.fullmatch(MOUNT_PATTERN, path) or len(path) > 160:
            pattern = "Member must satisfy regular expression pattern: ^/mnt/[a-zA-Z0-9-_.]+$"
            yield _violation("fileSystemConfigs.localMountPath", path, pattern)


_CREATION: Final = (_name, _package, _architectures)
_CONFIGURATION: Final = (
    _range("timeout", "Timeout", LAMBDA_TIMEOUT_S),
    _range("memorySize", "MemorySize", LAMBDA_MEMORY_MIB),
    _tmp,
    _runtime,
    _handler,
    _description,
    _environment,
    _layers,
    _file_systems,
)


def _check_role(asked: Asked) -> None:
    """The role must be there and trust Lambda; right after its creation AWS says the same for some seconds."""
    from moto.iam.exceptions import NotFoundException
    from moto.iam.models import iam_backends

    parts = str(asked.get("Role", "")).split(":")
    if len(parts) != 6 or parts[2] != "iam" or not re.fullmatch(r"\d{12}", parts[4]):
        pattern = "arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+"
        raise _violation("role", asked.get("Role"), f"Member must satisfy regular expression pattern: {pattern}")
    try:
        role = iam_backends[parts[4]][parts[1]].get_role_by_arn(asked["Role"])
        document = json.loads(role.assume_role_policy_document)
    except (NotFoundException, ValueError, KeyError):
        document = {}
    if not any(_trusts_lambda(statement) for statement in _listed(document.get("Statement", []))):
        raise _invalid("The role defined for the function cannot be assumed by Lambda.")


def _trusts_lambda(statement: dict[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    services = _listed(principal.get("Service", [])) if isinstance(principal, dict) else []
    actions = {str(action).lower() for action in _listed(statement.get("Action", []))}
    return (
        statement.get("Effect") == "Allow"
        and "lambda.amazonaws.com" in services
        and bool(actions & {"sts:assumerole", "sts:*", "*"})
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_statement(asked: Asked, function: str, environ: Environ, who: Caller) -> None:
    """A statement id is used once; moto would keep two."""
    statement = str(asked.get("StatementId", ""))
    if not re.fullmatch(STATEMENT_PATTERN, statement):
        raise _violation("statementId", statement, "Member must satisfy regular expression pattern: ([a-zA-Z0-9-_]+)")
    found = _find(function, environ, who)
    if found is not None and any(kept.get("Sid") == statement for kept in found.policy.statements):
        raise RefusalError(
            409,
            "ResourceConflictException",
            f"The statement id ({statement}) provided already exists. Please provide a new statement id, or remove the existing "
            "statement.",
        )


def _check_published(asked: Asked, function: str, environ: Environ, who: Caller) -> None:
    """PublishVersion may name the code it means; moto publishes whatever there is."""
    found, wanted = _find(function, environ, who), asked.get("CodeSha256")
    if found is not None and wanted and wanted != found.code_sha_256:
        raise _invalid(
            f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({found.code_sha_256}). "
            "Please try again with the CodeSHA256 in $LATEST."
        )


def _find(function: str, environ: Environ, who: Caller) -> Any:
    """moto's function; None when there is none, of which moto says ResourceNotFoundException."""
    from moto.awslambda.exceptions import LambdaClientError
    from moto.awslambda.models import lambda_backends
    from moto.iam.models import get_account_id_from

    account = environ.get("HTTP_X_MOTO_ACCOUNT_ID") or get_account_id_from(who.access_key or "")
    try:
        return lambda_backends[account][who.region or "us-east-1"].get_function(function)
    except (LambdaClientError, KeyError):
        return None
