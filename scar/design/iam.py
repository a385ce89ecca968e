"""Policies as data: what a function may do, and who may act as it. No resource is a bare `*`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from scar.aws import names
from scar.design import network_access, storage
from scar.design.site import Site
from scar.fdl.model import Function, Io

VERSION: Final = "2012-10-17"

Statement = dict[str, Any]


def trust(service: str) -> dict[str, Any]:
    """Who may assume a role: a service (`lambda`, `ecs-tasks`, `ec2`). No source condition, for Lambda sends none when it takes on a role."""
    return {
        "Version": VERSION,
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }


def lambda_trust() -> dict[str, Any]:
    return trust("lambda")


def lambda_policy(
    fn: Function, site: Site, *, code: str | None = None, more: Iterable[Statement] = ()
) -> dict[str, Any]:
    """What the function's own code may do: log, read its inputs and its `code` (an ARN), write its outputs and its own state; and `more`."""
    statements = [
        *_logs(fn, site),
        *_inputs(fn.lambda_.input, site),
        *_outputs(fn.lambda_.output, site),
        *_state(fn, site, writes=fn.jobs is not None or fn.api_gateway is not None or fn.function_url is not None),
        *([_allow("OwnCode", ["s3:GetObject"], [code])] if code else []),
        *storage.statements(fn, site),
        *more,
    ]
    return {"Version": VERSION, "Statement": statements}


def hand_over(fn: Function, site: Site, queue: str) -> tuple[Statement, ...]:
    """What a function may do that hands runs over to `queue` (a name) of Batch, and whose failures Lambda tells to EventBridge."""
    # IAM matches a revision as `name:1`; a definition is named by 16 hex digits of its content, so each `?` stands for one of them.
    definition = site.arn("batch", f"job-definition/{names.job_definitions_of(fn.name)}{'?' * 16}")
    return (
        _allow(
            "SubmitJobs", ["batch:SubmitJob"], [site.arn("batch", f"job-queue/{queue}"), definition, f"{definition}:*"]
        ),
        # Knows no resources: service-authorization/latest/reference/list_awsbatch
        _allow("FindJobs", ["batch:ListJobs"], ["*"]),
        # Lambda tells it, as the function, what it gives up on; a rule of ours brings it back.
        _allow("OwnFailures", ["events:PutEvents"], [site.arn("events", "event-bus/default")]),
    )


def job_policy(fn: Function, site: Site) -> dict[str, Any]:
    """What a job's own code may do: read the function's inputs, write its outputs and its own state. ECS writes its log."""
    statements = [*_inputs(fn.lambda_.input, site), *_outputs(fn.lambda_.output, site)]
    statements += _state(fn, site, writes=True, deletes=fn.jobs is not None and bool(fn.jobs.nodes))
    statements += storage.statements(fn, site)
    statements += network_access.file_statements(fn, site)
    return {"Version": VERSION, "Statement": statements}


def execution_policy(fn: Function, site: Site, repository: str) -> dict[str, Any]:
    """What ECS may do before a job runs and while it does: pull its image from `repository` (an ARN) and write its log."""
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    group = site.arn("logs", f"log-group:{names.batch_log_group(fn.name)}")
    statements = [
        # Knows no resources: service-authorization/latest/reference/list_amazonelasticcontainerregistry
        _allow("LogIn", ["ecr:GetAuthorizationToken"], ["*"]),
        _allow("PullImage", pull, [repository]),
        _allow("Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{group}:*"]),
    ]
    return {"Version": VERSION, "Statement": statements}


def ecs_instance_policy(site: Site) -> str:
    """AWS's own policy for the machines of ECS. Source: batch/latest/userguide/instance_IAM_role."""
    return f"arn:{site.partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"


def ecr_pull(site: Site, function: str) -> dict[str, Any]:
    """Lambda may pull the repository's images, for this function (and its versions) only."""
    arn = site.arn("lambda", f"function:{function}")
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Sid": "LambdaPulls",
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                "Condition": {"StringLike": {"aws:sourceArn": [arn, f"{arn}:*"]}},
            }
        ],
    }


def _logs(fn: Function, site: Site) -> Iterable[Statement]:
    group = site.arn("logs", f"log-group:{names.log_group(fn.name)}")
    # Streams are made by Lambda and named by date and sandbox.
    yield _allow("Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{group}:*"])


def _inputs(inputs: Iterable[Io], site: Site) -> Iterable[Statement]:
    if arns := _objects(inputs, site):
        yield _allow("ReadInputs", ["s3:GetObject", "s3:GetObjectVersion"], arns)


def _outputs(outputs: Iterable[Io], site: Site) -> Iterable[Statement]:
    if arns := _objects(outputs, site):
        yield _allow("WriteOutputs", ["s3:AbortMultipartUpload", "s3:PutObject"], arns)


def _state(fn: Function, site: Site, *, writes: bool, deletes: bool = False) -> Iterable[Statement]:
    """Events too large for their way are read from there by every function. The ledger, and what is handed on, is written by those that hand
    runs over or answer before they run; nodes take away what they told each other.
    """
    bucket = site.bucket_arn(names.state_bucket(site.account, site.region))
    own = f"{bucket}/{names.state_prefix(fn.name)}*"
    actions = [*(["s3:DeleteObject"] if deletes else []), "s3:GetObject", *(["s3:PutObject"] if writes else [])]
    yield _allow("OwnState", actions, [own])


def _objects(items: Iterable[Io], site: Site) -> list[str]:
    """ARNs of what lies in the folders, each ending in `/*`; storage elsewhere than S3 is not IAM's."""
    paths = {f"{item.bucket}/{item.folder}" if item.folder else item.bucket for item in items if is_s3(item)}
    return sorted(f"{site.bucket_arn(_literal(path))}/*" for path in paths)


def _literal(text: str) -> str:
    """A folder's own `*`, `?` and `$` are characters, not IAM's wildcards and variables."""
    return re.sub(r"[*?$]", lambda found: f"${{{found[0]}}}", text)


def is_s3(item: Io) -> bool:
    return item.provider == "s3"


def _allow(sid: str, actions: list[str], resources: list[str]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
