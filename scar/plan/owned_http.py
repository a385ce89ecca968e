"""What a function may have of HTTP endpoints, for whoever looks for what is there and not who says what should be."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from scar.aws.clients import Aws
from scar.aws.resources.function_url import FunctionUrl
from scar.aws.resources.rest_api import RestApi
from scar.plan.resource import Id, Resource

KINDS: Final = ("api", "key", "url")  # as the function's mark has them: an API, an API key, a URL


def resources(aws: Aws, name: str, kinds: Collection[str]) -> Iterator[Resource]:
    """By name and by tag; `read` fills in the rest. No call is made here."""
    if "api" in kinds:
        yield RestApi(
            name="",
            function=name,
            stage="",
            auth="api_key" if "key" in kinds else "",
            routes=(),
            tags=(),
            serves="",
            after=(Id("function", name),),
        )
    if "url" in kinds:
        yield FunctionUrl(name, auth="")
