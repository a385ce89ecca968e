"""The HTTP endpoints of a function: a REST API of API Gateway, a Function URL, both, or none."""

from __future__ import annotations

from collections.abc import Iterable

from scar.design.iam import Statement
from scar.design.site import Site
from scar.fdl.model import Function
from scar.plan.resource import Resource


def statements(fn: Function, site: Site) -> tuple[Statement, ...]:
    """What a function with an endpoint may do besides: call itself, for requests that are answered before they are run."""
    return ()


def resources(fn: Function, site: Site) -> Iterable[Resource]:
    """What makes the endpoints, all of it after the function."""
    return ()


def tags(fn: Function) -> dict[str, str]:
    """What the function's own tags tell of its endpoints."""
    return {}
