"""A function and its site become the resources it is made of. Pure: nothing here talks to AWS.

A mode is one file and one line of MODES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from faassupervisor.contract import Mode
from scar.design.batch import design as _with_jobs
from scar.design.lambda_ import design as _lambda
from scar.design.site import FunctionImage as FunctionImage
from scar.design.site import FunctionZip as FunctionZip
from scar.design.site import Made as Made
from scar.design.site import Site as Site
from scar.design.site import WithNodeImages as WithNodeImages
from scar.design.site import ZipAndJobImage as ZipAndJobImage
from scar.errors import UsageError
from scar.fdl.model import Function
from scar.plan.resource import Resource

MODES: Final[Mapping[Mode, Callable[[Function, Site, Made], Iterable[Resource]]]] = {
    "lambda": _lambda,
    # The two differ in what the agent does, which their specs tell it: in AWS they are made of the same things.
    "lambda-batch": _with_jobs,
    "batch": _with_jobs,
}


def design(fn: Function, site: Site, made: Made) -> tuple[Resource, ...]:
    """Everything that must exist for this function to run here. What was `made` of its code is sent when the plan is applied."""
    mode = fn.lambda_.execution_mode
    builder = MODES.get(mode)
    if builder is None:
        raise UsageError(
            f"execution mode {mode} is not available", where=fn.name, fix=f"Use one of: {', '.join(MODES)}."
        )
    return tuple(builder(fn, site, made))
