"""The Lambda function itself: made from an image in ECR, by digest, or from a zip."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources.code import HANDLER, Code, ImageCode, ZipCode
from scar.aws.tags import Pairs
from scar.aws.wait import until
from scar.errors import ConflictError, ServiceError
from scar.plan.resource import Id

if TYPE_CHECKING:
    from mypy_boto3_lambda.type_defs import (
        FunctionConfigurationResponseTypeDef,
        FunctionConfigurationTypeDef,
        GetFunctionResponseTypeDef,
    )

ROLE_DEADLINE_S: Final = 120.0  # a new role is known to Lambda within seconds, rarely a minute
READY_DEADLINE_S: Final = 600.0  # a large image is optimised before the function turns Active

READY: Final = "Active"
_CODE: Final = ("code", "architecture")
_PACKAGES: Final = {"Image": "a container image", "Zip": "a zip"}
_STATES_THAT_RUN: Final = frozenset({"Active", "Inactive", "ActiveNonInvocable", ""})


@dataclass(frozen=True, slots=True)
class JoinedNetwork:
    """The network that a function joins; one of nothing is Lambda's own, which leads to the internet."""

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    ipv6: bool = False

    def __str__(self) -> str:
        ids = " ".join((*self.subnets, *self.security_groups))
        return f"{ids or 'none'}{' with IPv6' if self.ipv6 else ''}"


@dataclass(frozen=True, slots=True)
class LambdaFunction:
    """`state` is Active unless AWS has not finished, or failed, making the function so. `after` is what must exist first.

    `code` is None for a function that is to be removed, whatever it runs. `runtime` and `layers` are a zip's. `files` are access points
    of file systems, each with the path where it is mounted. `note` is for the plan.
    A function of this name that does not carry our tag is somebody else's: reading it is a ConflictError. So is reading one whose code
    is of the other kind than ours: Lambda never turns an image into a zip or back.
    """

    name: str
    arn: str
    code: Code | None
    role_arn: str
    memory_mib: int
    timeout_s: int
    tmp_mib: int
    architecture: str
    description: str
    environment: Pairs
    tags: Pairs
    runtime: str = ""
    layers: tuple[str, ...] = ()
    network: JoinedNetwork = JoinedNetwork()
    files: Pairs = ()
    state: str = READY
    settled: str = field(default="", compare=False)  # what plan.settled noted
    note: str = field(default="", compare=False)
    after: tuple[Id, ...] = field(default=(), compare=False)

    @property
    def id(self) -> Id:
        return Id("function", self.name)

    @property
    def needs(self) -> tuple[Id, ...]:
        return self.after

    def read(self, aws: Aws) -> LambdaFunction | None:
        found = self._ask(aws)
        if found is None:
            return None
        config = found["Configuration"]
        owned = tags.pairs(found.get("Tags", {}))
        tags.ours_only(owned, f"function {self.name}", self.name)
        code = _code_of(found)
        if self.code is not None and code.package_type != self.code.package_type:
            raise ConflictError(
                f"function {self.name} is made of {_PACKAGES[code.package_type]}, and Lambda never changes that to "
                f"{_PACKAGES[self.code.package_type]}",
                fix=f"Remove it with `scar rm -n {self.name}`, then run this again. Its log goes, and files that arrive meanwhile start nothing.",
            )
        return replace(self._as_it_is(config, code, owned), settled=found.get("Tags", {}).get(tags.SETTLED, ""))

    def create(self, aws: Aws) -> None:
        """Asks again while Lambda does not yet know the role, then waits until the function can be invoked."""

        refusals: list[str] = []

        def attempt() -> str | None:
            try:
                answer = aws.lambda_.create_function(
                    FunctionName=self.name,
                    PackageType=self._code.package_type,
                    Code=self._code.sent(),  # type: ignore[arg-type]  # the keys are FunctionCode's
                    Architectures=[self.architecture],  # type: ignore[list-item]  # the FDL admits AWS's two words only
                    Tags=tags.written(self.tags),
                    **self._configuration(),
                    **self._places(None),
                )
            except ClientError as error:
                if _is_not_yet_known(error):
                    refusals.append(str(error))
                    return None
                if code_of(error) != "ResourceConflictException":
                    raise
                return self._take_over(aws)
            return _state_of(answer)

        def what() -> str:
            return f"Lambda to accept role and image of {self.name}; it said: {refusals[-1] if refusals else 'nothing'}"

        if until(attempt, deadline_s=ROLE_DEADLINE_S, what=what, clock=aws.clock) != READY:
            self._wait_ready(aws)

    def update(self, aws: Aws, actual: LambdaFunction) -> None:
        """Sends code, configuration and tags only where they differ, one after the other as Lambda demands."""
        broken = actual.state.startswith("Failed")
        if actual.state != READY and not broken:
            self._wait_settled(aws)
        if broken or any(getattr(self, name) != getattr(actual, name) for name in _CODE):
            self._patiently(aws, self._send_code)
            self._wait_ready(aws)
        if broken or not self._same_configuration(actual):
            self._patiently(aws, functools.partial(self._send_configuration, actual))
            self._wait_ready(aws)
        if actual.tags != self.tags:
            aws.lambda_.tag_resource(Resource=self.arn, Tags=tags.written(self.tags))
            if surplus := tags.removed(actual.tags, self.tags):
                aws.lambda_.untag_resource(Resource=self.arn, TagKeys=surplus)

    def delete(self, aws: Aws) -> None:
        try:
            aws.lambda_.delete_function(FunctionName=self.name)
        except ClientError as error:
            if not is_absent(error):
                raise

    def _ask(self, aws: Aws) -> GetFunctionResponseTypeDef | None:
        try:
            return aws.lambda_.get_function(FunctionName=self.name)
        except ClientError as error:
            if is_absent(error):
                return None
            raise

    def _as_it_is(self, config: FunctionConfigurationTypeDef, code: Code, owned: Pairs) -> LambdaFunction:
        environment: Mapping[str, Any] = config.get("Environment") or {}
        storage: Mapping[str, Any] = config.get("EphemeralStorage") or {}
        network: Mapping[str, Any] = config.get("VpcConfig") or {}
        return replace(
            self,
            arn=config["FunctionArn"],
            code=code,
            role_arn=config["Role"],
            memory_mib=config["MemorySize"],
            timeout_s=config["Timeout"],
            tmp_mib=storage.get("Size", 512),
            architecture=(config.get("Architectures") or ["x86_64"])[0],
            description=config.get("Description", ""),
            environment=tuple(sorted((environment.get("Variables") or {}).items())),
            tags=owned,
            runtime=config.get("Runtime", ""),
            layers=tuple(layer["Arn"] for layer in config.get("Layers", ())),
            network=JoinedNetwork(
                tuple(sorted(network.get("SubnetIds") or ())),
                tuple(sorted(network.get("SecurityGroupIds") or ())),
                bool(network.get("Ipv6AllowedForDualStack", False)),
            ),
            files=tuple((each["Arn"], each["LocalMountPath"]) for each in config.get("FileSystemConfigs") or ()),
            state=_state_of(config),
        )

    def _take_over(self, aws: Aws) -> str | None:
        """The function is there after all: ours from an answer that was lost (finish it), or another's (refuse)."""
        actual = self.read(aws)
        if actual is None:
            return None
        if actual != self:
            self.update(aws, actual)
        return READY

    @property
    def _code(self) -> Code:
        assert self.code is not None, "a function that is made has code"
        return self.code

    def _configuration(self) -> dict[str, Any]:
        of_zip = {"Runtime": self.runtime, "Handler": HANDLER, "Layers": list(self.layers)} if self.runtime else {}
        return {
            **of_zip,
            "Role": self.role_arn,
            "MemorySize": self.memory_mib,
            "Timeout": self.timeout_s,
            "EphemeralStorage": {"Size": self.tmp_mib},
            "Description": self.description,
            "Environment": {"Variables": dict(self.environment)},
        }

    def _places(self, actual: LambdaFunction | None) -> dict[str, Any]:
        """Network and file system. That there is none is said only to a function that has some: without a word it would keep them."""
        network = {
            "SubnetIds": list(self.network.subnets),
            "SecurityGroupIds": list(self.network.security_groups),
            **({"Ipv6AllowedForDualStack": self.network.ipv6} if self.network.subnets else {}),
        }
        files = [{"Arn": arn, "LocalMountPath": path} for arn, path in self.files]
        return {
            **(
                {"VpcConfig": network}
                if self.network != JoinedNetwork() or (actual and actual.network != JoinedNetwork())
                else {}
            ),
            **({"FileSystemConfigs": files} if files or (actual and actual.files) else {}),
        }

    def _same_configuration(self, actual: LambdaFunction) -> bool:
        same_but = {name: getattr(actual, name) for name in (*_CODE, "tags", "state")}
        return replace(self, **same_but) == actual

    def _send_code(self, aws: Aws) -> None:
        aws.lambda_.update_function_code(
            FunctionName=self.name,
            **self._code.sent(),
            Architectures=[self.architecture],  # type: ignore[list-item]  # the FDL admits AWS's two words only
        )

    def _send_configuration(self, actual: LambdaFunction, aws: Aws) -> None:
        aws.lambda_.update_function_configuration(
            FunctionName=self.name, **self._configuration(), **self._places(actual)
        )

    def _patiently(self, aws: Aws, send: Any) -> None:
        """Send once Lambda is done with an update that is under way, and knows the role."""

        def attempt() -> bool | None:
            try:
                send(aws)
            except ClientError as error:
                if code_of(error) == "ResourceConflictException" or _is_not_yet_known(error):
                    return None
                raise
            return True

        until(attempt, deadline_s=ROLE_DEADLINE_S, what=f"Lambda to accept an update of {self.name}", clock=aws.clock)

    def _wait_settled(self, aws: Aws) -> str:
        """Until Lambda has finished, well or not: the state then."""

        def settled() -> str | None:
            found = self._ask(aws)
            if found is None:
                raise ServiceError(f"function {self.name} disappeared while it was waited for")
            state = _state_of(found["Configuration"])
            return state if state == READY or state.startswith("Failed") else None

        return until(settled, deadline_s=READY_DEADLINE_S, what=f"function {self.name} to be ready", clock=aws.clock)

    def _wait_ready(self, aws: Aws) -> None:
        state = self._wait_settled(aws)
        if state != READY:
            raise ServiceError(f"Lambda could not make function {self.name} ready: {state}", where=self.arn)


def _state_of(config: FunctionConfigurationTypeDef | FunctionConfigurationResponseTypeDef) -> str:
    """READY, `Failed: <reason>`, or what Lambda is still busy with."""
    state, update = config.get("State", ""), config.get("LastUpdateStatus", "Successful")
    if state == "Failed":
        return f"Failed: {config.get('StateReasonCode', '')} {config.get('StateReason', '')}".strip()
    if state not in _STATES_THAT_RUN:
        return state
    if update == "Failed":
        return (
            f"Failed: {config.get('LastUpdateStatusReasonCode', '')} {config.get('LastUpdateStatusReason', '')}".strip()
        )
    return READY if update == "Successful" else update


def _code_of(found: GetFunctionResponseTypeDef) -> Code:
    """An image by digest however it was given: Lambda resolves a tag when the code is updated."""
    config = found["Configuration"]
    if config.get("PackageType", "Zip") != "Image":
        return ZipCode(config.get("CodeSha256", ""))
    code: Mapping[str, Any] = found.get("Code", {})
    given = str(code.get("ImageUri", ""))
    return ImageCode(given if "@sha256:" in given else str(code.get("ResolvedImageUri", given)))


def _is_not_yet_known(error: ClientError) -> bool:
    """Lambda comes to know of a new role, and of leave to pull an image, some seconds after it was made."""
    message = error.response["Error"].get("Message", "")
    known_later = ("cannot be assumed", "permission to access the ECR image")
    return code_of(error) in {"InvalidParameterValueException", "AccessDeniedException"} and any(
        part in message for part in known_later
    )
