"""What a function may have of HTTP endpoints, for whoever looks for what is there and not who says what should be."""

from __future__ import annotations

from collections.abc import Iterable

from scar.aws.clients import Aws
from scar.aws.resources.function_url import FunctionUrl
from scar.aws.resources.rest_api import RestApi
from scar.plan.resource import Id, Resource


def resources(aws: Aws, name: str) -> Iterable[Resource]:
    """By name and by tag; `read` fills in the rest. No call is made here."""
    arn = f"arn:{aws.partition}:lambda:{aws.region}:{aws.account}:function:{name}"
    yield RestApi("", name, arn, stage="", auth="", routes=(), tags=(), serves="", after=(Id("function", name),))
    yield FunctionUrl(name, auth="")
