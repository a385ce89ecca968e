"""Policies as data: what a function may do, and who may act as it. No resource is a bare `*`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from scar.aws import names
from scar.design.site import Site
from scar.fdl.model import Function, Io

VERSION: Final = "2012-10-17"

Statement = dict[str, Any]


def lambda_trust() -> dict[str, Any]:
    """Who may assume the role: Lambda. No source condition, for Lambda sends none when it takes on a role."""
    return {
        "Version": VERSION,
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }


def lambda_policy(fn: Function, site: Site, *, code: str | None = None) -> dict[str, Any]:
    """What the function's own code may do: log, read its inputs and its `code` (an ARN), write its outputs and its own state."""
    statements = [
        *_logs(fn, site),
        *_inputs(fn.lambda_.input, site),
        *_outputs(fn.lambda_.output, site),
        *_state(fn, site),
        *([_allow("OwnCode", ["s3:GetObject"], [code])] if code else []),
    ]
    return {"Version": VERSION, "Statement": statements}


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


def _state(fn: Function, site: Site) -> Iterable[Statement]:
    bucket = site.bucket_arn(names.state_bucket(site.account, site.region))
    own = f"{bucket}/{names.state_prefix(fn.name)}*"
    yield _allow("OwnState", ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"], [own])


def _objects(items: Iterable[Io], site: Site) -> list[str]:
    """ARNs of what lies in the folders, each ending in `/*`; storage elsewhere than S3 is not IAM's."""
    paths = {f"{item.bucket}/{item.folder}" if item.folder else item.bucket for item in items if is_s3(item)}
    return sorted(f"{site.bucket_arn(_literal(path))}/*" for path in paths)


def _literal(text: str) -> str:
    """A folder's own `*`, `?` and `$` are characters, not IAM's wildcards and variables."""
    return re.sub(r"[*?$]", lambda found: f"${{{found[0]}}}", text)


def is_s3(item: Io) -> bool:
    return item.storage_provider.partition(".")[0] == "s3"


def _allow(sid: str, actions: list[str], resources: list[str]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
