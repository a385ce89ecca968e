"""Where a function can be called over HTTP, told to whoever has just made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scar.commands.watching import command

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.endpoints import Endpoint
    from scar.cli import Context
    from scar.fdl.model import Function


def show(context: Context, aws: Aws, functions: Iterable[Function]) -> Mapping[str, Mapping[str, Any]]:
    """A line for each endpoint; answers what a JSON document tells of each function that has some."""
    from scar.aws.endpoints import endpoints_of

    told: dict[str, Mapping[str, Any]] = {}
    for fn in functions:
        if fn.api_gateway is None and fn.function_url is None:
            continue
        ways = endpoints_of(aws, fn.name)
        told[fn.name] = {"endpoints": [{"kind": way.kind, "url": way.url, "auth": way.auth} for way in ways]}
        if context.report.json:
            continue
        for way in ways:
            context.report.line(f"{fn.name}: {way.url}  ({who_may(way)})")
        context.report.say(f"Call it: {command(context)} invoke -n {fn.name} -db FILE")
    return told


def who_may(way: Endpoint) -> str:
    match way.auth:
        case "none":
            return "public: anyone on the internet can run it"
        case "api_key":
            return f"callers send the API key {way.key_name}"
        case _:
            return "callers sign their requests"
