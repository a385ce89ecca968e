"""What does the control plane say about a function? Reads moto's Lambda, STS and IAM objects and turns them into records."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from moto.awslambda.exceptions import LambdaClientError, UnknownFunctionException
from moto.awslambda.models import LambdaFunction, lambda_backends
from moto.sts.models import sts_backends

from scar.limits import LAMBDA_ASYNC_RETRIES
from scar.local.functions.code import digest_of
from scar.local.functions.configuration import CannotRunError, Configuration, ZipPackage

_IMAGE_URI: Final = re.compile(
    r"(?P<host>[^/]+)/(?P<repository>[^@:]+)(?::(?P<tag>[\w.-]{1,128}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MAX_EVENT_AGE_S: Final = 21_600
_CREDENTIALS_S: Final = 1800.0

# What moto drops of CreateFunction and UpdateFunctionConfiguration; kept in this attribute of its function objects.
KEPT: Final = "scar_configuration"
LAYERS: Final = "scar_layers"
KEPT_KEYS: Final = ("DeadLetterConfig", "FileSystemConfigs", "LoggingConfig")


@dataclass(frozen=True, slots=True)
class ImageUri:
    """An image as CreateFunction names it."""

    host: str
    repository: str
    reference: str  # a digest, or a tag

    @classmethod
    def parse(cls, text: str) -> ImageUri | None:
        found = _IMAGE_URI.fullmatch(text)
        if found is None:
            return None
        return cls(found["host"], found["repository"], found["digest"] or found["tag"] or "latest")


@dataclass(frozen=True, slots=True)
class EventSettings:
    """What becomes of an asynchronous event."""

    retries: int = LAMBDA_ASYNC_RETRIES
    max_age_s: float = _MAX_EVENT_AGE_S
    dead_letter: str | None = None
    on_success: str | None = None
    on_failure: str | None = None


def find(arn: str, account: str, region: str, qualifier: str | None = None) -> LambdaFunction | None:
    """The function by name, partial or whole ARN (a qualifier in it wins); None when there is none."""
    try:
        return lambda_backends[account][region].get_function(arn, qualifier)
    except UnknownFunctionException:
        return None


def unqualified_arn(function: LambdaFunction) -> str:
    arn: str = function.function_arn
    return ":".join(arn.split(":")[:7])


def reserved_concurrency(function: LambdaFunction) -> int | None:
    """It belongs to the function; moto keeps it on the $LATEST object."""
    latest = find(function.function_name, function.account_id, function.region) or function
    return None if latest.reserved_concurrency is None else int(latest.reserved_concurrency)


def configuration_of(function: LambdaFunction) -> Configuration:
    """What a sandbox of this version is made of."""
    image, zipped = function.image_config, function.package_type != "Image"
    logging = kept(function).get("LoggingConfig") or {}
    return Configuration(
        account=function.account_id,
        region=function.region,
        name=function.function_name,
        version=str(function.version),
        arn=unqualified_arn(function),
        role=function.role,
        image_digest="" if zipped else f"sha256:{function.code_sha_256}",
        package=_package_of(function) if zipped else None,
        entry_point=tuple(image.entry_point or ()),
        command=tuple(image.cmd or ()),
        working_directory=image.working_directory or None,
        environment=tuple(sorted((function.environment_vars or {}).items())),
        memory_mib=int(function.memory_size),
        timeout_s=int(function.timeout),
        tmp_mib=int(function.ephemeral_storage),
        log_group=logging.get("LogGroup") or f"/aws/lambda/{function.function_name}",
        files=tuple(
            (str(each["Arn"]), str(each["LocalMountPath"])) for each in kept(function).get("FileSystemConfigs") or ()
        ),
    )


def _package_of(function: LambdaFunction) -> ZipPackage:
    if not function.code_sha_256:
        raise CannotRunError(f"{function.function_name} has no code", lasting=True)
    return ZipPackage(
        digest=digest_of(function.code_sha_256),
        runtime=str(function.run_time),
        handler=str(function.handler),
        layers=layers_of(function),
    )


def layers_of(function: LambdaFunction) -> tuple[str, ...]:
    """Digests (hex) of the function's layers, in the order in which they are laid over each other."""
    found: tuple[str, ...] = getattr(function, LAYERS, ())
    return found


def kept(function: LambdaFunction) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(function, KEPT, {})
    return found


def event_settings(function: LambdaFunction) -> EventSettings:
    latest = find(function.function_name, function.account_id, function.region) or function
    config: Mapping[str, Any] = latest.event_invoke_config[-1].config if latest.event_invoke_config else {}
    destinations = config.get("DestinationConfig") or {}
    return EventSettings(
        retries=int(config.get("MaximumRetryAttempts", LAMBDA_ASYNC_RETRIES)),
        max_age_s=float(config.get("MaximumEventAgeInSeconds", _MAX_EVENT_AGE_S)),
        dead_letter=_arn_of(kept(function).get("DeadLetterConfig"), "TargetArn"),
        on_success=_arn_of(destinations.get("OnSuccess"), "Destination"),
        on_failure=_arn_of(destinations.get("OnFailure"), "Destination"),
    )


def _arn_of(document: Mapping[str, Any] | None, key: str) -> str | None:
    return (document or {}).get(key) or None


def assume_role(*, account: str, region: str, partition: str, role: str, session: str) -> Mapping[str, str]:
    """A session of moto's STS, as the environment variables that SDKs read."""
    made = sts_backends[account][partition].assume_role(
        region_name=region,
        role_session_name=session[:64],
        role_arn=role,
        policy="",
        duration=43_200,
        external_id="",
    )
    return {
        "AWS_ACCESS_KEY_ID": made.access_key_id,
        "AWS_SECRET_ACCESS_KEY": made.secret_access_key,
        "AWS_SESSION_TOKEN": made.session_token,
    }


class RoleCredentials:
    """Sessions of functions' roles, made by moto's STS and reused for half an hour, so that warm-up does not fill its memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, str, str], tuple[float, Mapping[str, str]]] = {}

    def of(self, configuration: Configuration) -> Mapping[str, str]:
        key, now = (configuration.role, configuration.name, configuration.region), time.monotonic()
        with self._lock:
            made_at, variables = self._sessions.get(key, (-_CREDENTIALS_S, {}))
            if variables and now - made_at < _CREDENTIALS_S:
                return variables
            variables = assume_role(
                account=configuration.account,
                region=configuration.region,
                partition=configuration.arn.split(":")[1],
                role=configuration.role,
                session=configuration.name,
            )
            self._sessions = {k: v for k, v in self._sessions.items() if now - v[0] < _CREDENTIALS_S}
            self._sessions[key] = (now, variables)
            return variables


class RefusedError(LambdaClientError):  # type: ignore[misc]  # moto has no types
    """A refusal in Lambda's own shape, with the HTTP status that goes with it."""

    def __init__(self, kind: str, message: str, status: int = 400) -> None:
        super().__init__(kind, message)
        self.code = status
