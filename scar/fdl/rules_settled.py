"""Keys that say the same in two ways, settled once: who may call a function, and whether `scar run` waits for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from scar.fdl.model import Function
from scar.fdl.places import shown
from scar.fdl.read import Reading
from scar.fdl.services import ApiGateway, Auth

_OPEN_IN_SCAR_4 = (
    "the endpoint is not open to the world, as SCAR 4's was: whoever calls it signs the request (`scar invoke` does)"
)


def settled(functions: Sequence[Function], reading: Reading) -> Iterator[Function]:
    """The functions with one answer to each of them."""
    for index, fn in enumerate(functions):
        path = f"functions.aws[{index}]"
        waited = _without_empty_vpc(_with_asynchronous(fn, f"{path}.lambda", reading))
        yield _with_auth(waited, f"{path}.api_gateway", reading)


def _with_asynchronous(fn: Function, path: str, reading: Reading) -> Function:
    said = fn.lambda_.invocation_type
    if said is None:
        return fn
    given = f"{path}.asynchronous" in reading.places
    asynchronous = fn.lambda_.asynchronous if given else said == "Event"
    return dataclasses.replace(
        fn, lambda_=dataclasses.replace(fn.lambda_, asynchronous=asynchronous, invocation_type=None)
    )


def _without_empty_vpc(fn: Function) -> Function:
    """A network of nothing, as SCAR 4 and AWS's own tools write it, is none."""
    vpc = fn.lambda_.vpc
    if vpc is None or vpc.subnet_ids or vpc.security_group_ids:
        return fn
    return dataclasses.replace(fn, lambda_=dataclasses.replace(fn.lambda_, vpc=None))


def _with_auth(fn: Function, path: str, reading: Reading) -> Function:
    if fn.api_gateway is None or not reading.sound(path):
        return fn
    gateway = dataclasses.replace(fn.api_gateway, auth=_auth(fn.api_gateway, path, reading))
    return dataclasses.replace(fn, api_gateway=gateway if gateway.name else None)


def _auth(gateway: ApiGateway, path: str, reading: Reading) -> Auth:
    key = f"{path}.method"
    said = gateway.method.get("authorizationType")
    if gateway.name is None:
        reading.problems.warn(
            reading.place(path),
            path,
            "`api_gateway` makes no endpoint without a name",
            "Add `name`, or remove the section.",
        )
    if set(gateway.method) - {"authorizationType"}:
        reading.problems.warn(
            reading.place(key),
            key,
            "of `method`, only `authorizationType` has an effect: SCAR writes the rest of what API Gateway needs",
            "Write `auth` in its place.",
        )
    if said is None:
        if f"{path}.auth" not in reading.places and gateway.name is not None:
            reading.problems.warn(
                reading.place(path),
                path,
                _OPEN_IN_SCAR_4,
                "Write `auth: iam` to say so, or `auth: none` to let everyone run it.",
            )
        return gateway.auth
    meant = ApiGateway.AUTHORIZATIONS.get(str(said))
    if meant is None:
        choices = " or ".join(f"`{name}`" for name in sorted(ApiGateway.AUTHORIZATIONS))
        reading.problems.add(
            reading.place(f"{key}.authorizationType"),
            f"{key}.authorizationType",
            f"'{shown(str(said))}' is not among the choices",
            f"Write {choices}, or `auth` in place of `method`.",
        )
    elif f"{path}.auth" in reading.places and meant != gateway.auth:
        reading.problems.add(
            reading.place(f"{path}.auth"),
            f"{path}.auth",
            f"`auth: {gateway.auth}` and `method.authorizationType: {said}` contradict each other",
            "Keep `auth`.",
        )
    return meant or gateway.auth
