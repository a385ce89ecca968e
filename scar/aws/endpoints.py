"""Which functions have an HTTP endpoint, and where? Asked by whoever shows endpoints or calls one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scar.aws.clients import Aws

Auth = Literal["iam", "none", "api_key"]
Kind = Literal["api gateway", "function url"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way in over HTTP. `url` has no `/` at its end; in the local AWS it is what `curl` can use there.

    `service` is what a request is signed for where `auth` is `iam`; `key_name` names the API key where it is `api_key`, which is never shown.
    """

    function: str
    kind: Kind
    url: str
    auth: Auth
    service: str
    key_name: str = ""

    @property
    def public(self) -> bool:
        """Whether anyone on the internet can run the function through it."""
        return self.auth == "none"


def endpoints(aws: Aws) -> Mapping[str, tuple[Endpoint, ...]]:
    """Every function of ours in this region that has endpoints, the REST API first."""
    return {}


def endpoints_of(aws: Aws, function: str) -> tuple[Endpoint, ...]:
    """Those of one function; empty: it has none."""
    return ()
