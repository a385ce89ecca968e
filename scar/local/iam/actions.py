"""Which actions on which resources does a request need? One line for each rule, as AWS's service authorization reference has it.

What a service does in passing is asked for too: iam:PassRole for a role that is handed to it, the right to tag where tags come along.
A service without a rule here is asked for `service:Operation` on `*`. S3, which has no operation names on the wire, is in `s3_actions`.
Source: docs.aws.amazon.com/service-authorization/latest/reference
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from scar.local.iam.evaluate import Asked
from scar.local.iam.request import Request
from scar.local.iam.s3_actions import asked_of_s3

# What a service is signed for → what its actions begin with, where the two differ.
_PREFIXES: Final = {"tagging": "tag", "monitoring": "cloudwatch", "email": "ses", "s3express": "s3"}
# Nobody needs leave for these (STS/latest/APIReference).
FREE: Final = frozenset({"sts:GetCallerIdentity", "sts:GetSessionToken"})


def asked_of(request: Request, bodies: bytes = b"") -> tuple[Asked, ...]:
    """Everything that must be allowed; empty for what needs no leave. `bodies` is the document of an S3 request that has one."""
    if request.service == "s3":
        return tuple(asked_of_s3(request, bodies))
    if request.service == "apigateway":
        region = f"arn:{request.partition}:apigateway:{request.region}::"
        return (Asked(f"apigateway:{request.method}", f"{region}{request.path}"),)
    prefix = _PREFIXES.get(request.service, request.service)
    rule = _RULES.get(request.service)
    action = f"{prefix}:{request.operation}"
    if action in FREE:
        return ()
    if rule is None:
        return (Asked(action, "*"),)
    return tuple(rule(request, request.operation))


def _lambda(r: Request, op: str) -> Iterator[Asked]:
    name = {"Invoke": "InvokeFunction", "InvokeAsync": "InvokeFunction"}.get(op, op)
    given = r.text("FunctionName")
    if op in {"ListTags", "TagResource", "UntagResource"}:
        yield Asked(f"lambda:{op}", r.text("Resource") or r.text("ARN"))
    elif "LayerName" in r.parameters:
        version = r.parameters.get("VersionNumber")
        yield Asked(f"lambda:{name}", r.arn(f"layer:{r.text('LayerName')}" + (f":{version}" if version else "")))
    elif given:
        yield Asked(f"lambda:{name}", _function_arn(r, given))
    else:
        yield Asked(f"lambda:{name}", "*")
    if op == "CreateFunction" and r.parameters.get("Tags"):
        yield Asked("lambda:TagResource", _function_arn(r, given))
    if op in {"CreateFunction", "UpdateFunctionConfiguration"} and r.text("Role"):
        yield _passed(r.text("Role"), "lambda.amazonaws.com")


def _function_arn(r: Request, given: str) -> str:
    """By name, partial or whole ARN; a qualifier in the query counts for calls that take one."""
    if given.startswith("arn:"):
        arn = given
    else:
        name = given.rpartition("function:")[2]
        arn = r.arn(f"function:{name}")
    qualifier = r.text("Qualifier")
    return f"{arn}:{qualifier}" if qualifier and arn.count(":") == 6 else arn


def _iam(r: Request, op: str) -> Iterator[Asked]:
    def arn(kind: str, name: str) -> str:
        path = r.text("Path").strip("/") if op.startswith("Create") else ""
        return r.arn(f"{kind}/{path}/{name}" if path else f"{kind}/{name}", region="")

    named = (
        ("InstanceProfileName", "instance-profile"),
        ("RoleName", "role"),
        ("UserName", "user"),
        ("GroupName", "group"),
    )
    kinds = [(kind, r.text(key)) for key, kind in named if r.text(key)]
    context = {"iam:policyarn": (r.text("PolicyArn"),)} if r.text("PolicyArn") else {}
    if kinds:
        target = arn(*kinds[0])
    elif r.text("PolicyArn"):
        target = r.text("PolicyArn")
    elif op == "CreatePolicy":
        target = arn("policy", r.text("PolicyName"))
    elif op == "CreateServiceLinkedRole":
        service = r.text("AWSServiceName")
        target, context = r.arn(f"role/aws-service-role/{service}/*", region=""), {"iam:awsservicename": (service,)}
    else:
        target = "*"
    yield Asked(f"iam:{op}", target, context)
    if op.startswith("Create") and "Tags.member.1.Key" in r.parameters:
        yield Asked(f"iam:Tag{op.removeprefix('Create')}", target)
    if op == "AddRoleToInstanceProfile":
        yield _passed(arn("role", r.text("RoleName")), "ec2.amazonaws.com")


def _passed(role: str, service: str) -> Asked:
    """Whoever hands a role to a service needs leave for that. IAM/latest/UserGuide/id_roles_use_passrole"""
    return Asked("iam:PassRole", role, {"iam:passedtoservice": (service,)})


def _logs(r: Request, op: str) -> Iterator[Asked]:
    """AWS asks for the group as `log-group:NAME:log-stream:`, whose last word is empty unless one stream is meant."""
    if arn := r.text("resourceArn"):
        yield Asked(f"logs:{op}", arn.removesuffix(":*"))
        return
    name = r.text("logGroupName") or r.text("logGroupIdentifier").rpartition("log-group:")[2].removesuffix(":*")
    stream = (
        r.text("logStreamName") if op in {"CreateLogStream", "PutLogEvents", "GetLogEvents", "DeleteLogStream"} else ""
    )
    yield Asked(f"logs:{op}", r.arn(f"log-group:{name}:log-stream:{stream}"))
    if op == "CreateLogGroup" and r.parameters.get("tags"):
        yield Asked("logs:TagResource", r.arn(f"log-group:{name}"))


def _ecr(r: Request, op: str) -> Iterator[Asked]:
    without = {
        "GetAuthorizationToken",
        "DescribePullThroughCacheRules",
        "GetAccountSetting",
        "DescribeRegistry",
        "PutAccountSetting",
    }
    names = _texts(r.parameters.get("repositoryNames")) or _texts(r.parameters.get("repositoryName"))
    if arn := r.text("resourceArn"):
        yield Asked(f"ecr:{op}", arn)
    elif op in without:
        yield Asked(f"ecr:{op}", "*")
    else:
        for name in names or ("*",):
            yield Asked(f"ecr:{op}", r.arn(f"repository/{name}"))
    if op == "CreateRepository" and r.parameters.get("tags"):
        yield Asked("ecr:TagResource", r.arn(f"repository/{names[0]}"))


def _batch(r: Request, op: str) -> Iterator[Asked]:
    def arn(kind: str, given: str) -> str:
        return given if given.startswith("arn:") else r.arn(f"{kind}/{given}")

    targets: list[str] = []
    if op in {"TagResource", "UntagResource", "ListTagsForResource"}:
        targets = [r.text("resourceArn")]
    elif op == "SubmitJob":
        targets = [arn("job-definition", r.text("jobDefinition")), arn("job-queue", r.text("jobQueue"))]
    elif op in {"CancelJob", "TerminateJob"}:
        targets = [arn("job", r.text("jobId"))]
    elif op in {"RegisterJobDefinition", "DeregisterJobDefinition"}:
        targets = [arn("job-definition", r.text("jobDefinitionName") or r.text("jobDefinition"))]
    elif op.endswith("ComputeEnvironment"):
        targets = [arn("compute-environment", r.text("computeEnvironmentName") or r.text("computeEnvironment"))]
    elif op.endswith("JobQueue"):
        order = r.parameters.get("computeEnvironmentOrder") or ()
        targets = [arn("job-queue", r.text("jobQueueName") or r.text("jobQueue"))]
        targets += [
            arn("compute-environment", str(one.get("computeEnvironment"))) for one in order if isinstance(one, Mapping)
        ]
    for target in targets or ["*"]:
        yield Asked(f"batch:{op}", target)
    if r.parameters.get("tags") and op != "TagResource":
        yield Asked("batch:TagResource", targets[0] if targets else "*")
    yield from _passed_to_batch(r, r.parameters)


_HANDED: Final = {
    "jobRoleArn": "ecs-tasks.amazonaws.com",
    "executionRoleArn": "ecs-tasks.amazonaws.com",
    "serviceRole": "batch.amazonaws.com",
    "instanceRole": "ec2.amazonaws.com",
}


def _passed_to_batch(r: Request, found: Any) -> Iterator[Asked]:
    """Every role in the request, however deep. An instance profile stands for the role of its name."""
    if isinstance(found, Mapping):
        for key, value in found.items():
            if key in _HANDED and isinstance(value, str):
                name = value.rpartition("/")[2]
                role = value if ":role/" in value else r.arn(f"role/{name}", service="iam", region="")
                yield _passed(role, _HANDED[key])
            else:
                yield from _passed_to_batch(r, value)
    elif isinstance(found, list):
        for value in found:
            yield from _passed_to_batch(r, value)


def _events(r: Request, op: str) -> Iterator[Asked]:
    bus = r.text("EventBusName").rpartition("/")[2] or "default"
    rule = r.text("Rule") or (
        r.text("Name") if op in {"PutRule", "DescribeRule", "DeleteRule", "EnableRule", "DisableRule"} else ""
    )
    if op == "PutEvents":
        entries = r.parameters.get("Entries")
        for entry in entries if isinstance(entries, list) else ():
            name = (
                str(entry.get("EventBusName") or "default").rpartition("/")[2]
                if isinstance(entry, Mapping)
                else "default"
            )
            yield Asked("events:PutEvents", r.arn(f"event-bus/{name}"))
        return
    if r.text("ResourceARN"):
        target = r.text("ResourceARN")
    elif rule:
        target = r.arn(f"rule/{rule}" if bus == "default" else f"rule/{bus}/{rule}")
    elif op == "ListRules":
        target = r.arn("rule/*")
    else:
        target = "*"
    yield Asked(f"events:{op}", target)
    if op == "PutRule" and r.parameters.get("Tags"):
        yield Asked("events:TagResource", target)
    for one in _mappings(r.parameters.get("Targets")):
        if isinstance(one.get("RoleArn"), str):
            yield _passed(one["RoleArn"], "events.amazonaws.com")


def _ssm(r: Request, op: str) -> Iterator[Asked]:
    names = _texts(r.parameters.get("Names")) or _texts(r.parameters.get("Name")) or _texts(r.parameters.get("Path"))
    if not names and r.text("ResourceType") == "Parameter":
        names = _texts(r.parameters.get("ResourceId"))
    targets = [one if one.startswith("arn:") else r.arn(f"parameter/{one.strip('/')}") for one in names]
    for target in targets or ["*"]:
        yield Asked(f"ssm:{op}", target)
    if op == "PutParameter" and r.parameters.get("Tags"):
        yield Asked("ssm:AddTagsToResource", targets[0])


def _sts(r: Request, op: str) -> Iterator[Asked]:
    yield Asked(f"sts:{op}", r.text("RoleArn") or "*")


def _sqs(r: Request, op: str) -> Iterator[Asked]:
    name = r.text("QueueName") or r.text("QueueUrl").rpartition("/")[2]
    yield Asked(f"sqs:{re.sub('Batch$', '', op)}", r.arn(name) if name else "*")


def _sns(r: Request, op: str) -> Iterator[Asked]:
    yield Asked(
        f"sns:{re.sub('Batch$', '', op)}",
        r.text("TopicArn") or r.text("ResourceArn") or (r.arn(r.text("Name")) if r.text("Name") else "*"),
    )


def _secrets(r: Request, op: str) -> Iterator[Asked]:
    given = r.text("SecretId") or r.text("Name")
    yield Asked(
        f"secretsmanager:{op}", given if given.startswith("arn:") else r.arn(f"secret:{given}") if given else "*"
    )


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else ()


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in value if isinstance(one, Mapping)) if isinstance(value, list) else ()


_RULES: Final[Mapping[str, Callable[[Request, str], Iterator[Asked]]]] = {
    "lambda": _lambda,
    "iam": _iam,
    "logs": _logs,
    "ecr": _ecr,
    "batch": _batch,
    "events": _events,
    "ssm": _ssm,
    "sts": _sts,
    "sqs": _sqs,
    "sns": _sns,
    "secretsmanager": _secrets,
}
