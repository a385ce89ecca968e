"""What AWS's services do on behalf of a role: Lambda and ECS write logs and pull images, Lambda tells destinations. Each only if the role may.

No request comes over the network for these, so the engines ask here. Without an authority everything goes through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scar.local.functions.configuration import LogSink
from scar.local.iam.authority import Authority
from scar.local.iam.principals import ACCOUNT
from scar.local.log_streams import LogGroup

_ECR: Final = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<name>[^:@]+).*"
)
_DELIVERIES: Final = {
    "sqs": "sqs:SendMessage",
    "sns": "sns:Publish",
    "lambda": "lambda:InvokeFunction",
    "events": "events:PutEvents",
}
_PULLING: Final = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")


@dataclass(slots=True)
class Logs:
    """The log sink of one stream, written as a role: what it may not write is lost, and `tell` hears of it."""

    sink: LogSink
    authority: Authority
    role: str
    tell: Callable[[str], None]
    made: bool = False  # whether the role could make the stream

    def put(
        self,
        group: str,
        stream: str,
        lines: Sequence[tuple[int, str]],
        *,
        account: str = ACCOUNT,
        region: str = "us-east-1",
        make: bool = True,
    ) -> None:
        arn = _stream_arn(self.role, LogGroup(account, region, group), stream)
        wanted = (*(() if self.made else ("logs:CreateLogStream",)), *(("logs:PutLogEvents",) if lines else ()))
        for action in wanted:
            if refusal := self.authority.refusal_of_role(self.role, action, arn):
                self.tell(f"{len(lines)} log lines are lost: {refusal}")
                return
            self.made = True
        self.sink.put(group, stream, lines, account=account, region=region, make=make)


def _stream_arn(role: str, group: LogGroup, stream: str) -> str:
    return f"arn:{role.split(':')[1]}:logs:{group.region}:{group.account}:log-group:{group.name}:log-stream:{stream}"


def refusal_of_stream(authority: Authority, role: str, group: LogGroup, stream: str) -> str | None:
    """Why ECS may not make a job's log stream as its execution role."""
    return authority.refusal_of_role(role, "logs:CreateLogStream", _stream_arn(role, group, stream))


def logs_of(sink: LogSink, authority: Authority | None, role: str, tell: Callable[[str], None]) -> LogSink:
    return sink if authority is None else Logs(sink, authority, role, tell)


def refusal_of_delivery(authority: Authority | None, role: str, target: str) -> str | None:
    """Why Lambda may not tell a destination as a function's role."""
    action = _DELIVERIES.get(target.split(":")[2])
    return None if authority is None or action is None else authority.refusal_of_role(role, action, target)


def refusal_of_pull(authority: Authority | None, role: str | None, image: str) -> str | None:
    """Why ECS may not pull an image as a job's execution role. Without that role the machine's own pulls it."""
    found = _ECR.fullmatch(image)
    if authority is None or role is None or found is None:
        return None
    repository = f"arn:{role.split(':')[1]}:ecr:{found['region']}:{found['account']}:repository/{found['name']}"
    for action, resource in (("ecr:GetAuthorizationToken", "*"), *((action, repository) for action in _PULLING)):
        if refusal := authority.refusal_of_role(role, action, resource):
            return refusal
    return None


def refusal_of_secrets(
    authority: Authority | None, role: str | None, container: Mapping[str, Any], place: str
) -> str | None:
    """Why ECS may not read a job's secrets as its execution role. `place` is `arn:aws:ssm:REGION:ACCOUNT`, for parameters told by name."""
    if authority is None or role is None:
        return None
    for entry in container.get("secrets") or ():
        source = str(entry["valueFrom"])
        secret = source.split(":")[2:3] == ["secretsmanager"]
        resource = ":".join(source.split(":")[:7]) if secret else source
        resource = resource if resource.startswith("arn:") else f"{place}:parameter/{source.strip('/')}"
        action = "secretsmanager:GetSecretValue" if secret else "ssm:GetParameters"
        if refusal := authority.refusal_of_role(role, action, resource):
            return refusal
    return None


def refusal_of_function_image(authority: Authority, image: str, function: str) -> str | None:
    """Why Lambda may not pull a function's image: its repository's own policy has to let it. lambda/latest/dg/images-create"""
    found = _ECR.fullmatch(image)
    if found is None:
        return None
    partition, account = function.split(":")[1], function.split(":")[4]
    repository = f"arn:{partition}:ecr:{found['region']}:{found['account']}:repository/{found['name']}"
    for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
        refusal = authority.refusal_of_service(
            "lambda.amazonaws.com", action, repository, source=function, account=account
        )
        if refusal is not None:
            return f"Lambda does not have permission to access the ECR image. Check the ECR permissions. ({refusal})"
    return None
