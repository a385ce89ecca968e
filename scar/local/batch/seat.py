"""Where does a container sit, and how does it reach the local AWS from there? On this machine's network, or at a place in a gang's own.

Source of the two ways to a role's credentials: AmazonECS/latest/developerguide/task-iam-roles, botocore.credentials.ContainerProvider
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from faassupervisor.contract import NODE_ADDRESS
from scar.local.sandbox.spec import Network, Place

_CREDENTIALS: Final = "/_scar/batch/credentials"


@dataclass(frozen=True, slots=True)
class Seat:
    """`told` are variables that Batch sets because of it, `hints` those of the local AWS alone; `endpoint` is where this answers. Where
    `credentials_host` answers too, the SDKs know it themselves."""

    endpoint: str
    hostname: str
    place: Place | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    credentials_host: str | None = None

    @classmethod
    def of_node(cls, network: Network, index: int, main: int) -> Seat:
        """Source of the variable: batch/latest/userguide/mnp-env-vars"""
        place = network.places[index]
        main_address = network.places[main].address
        return cls(
            endpoint=network.endpoint,
            hostname=place.hostname,
            place=place,
            told={} if index == main else {"AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": main_address},
            hints={} if network.own else {NODE_ADDRESS: place.address},
            credentials_host=network.credentials_host,
        )

    @property
    def interfaces(self) -> list[dict[str, str]]:
        """As AttemptContainerDetail.networkInterfaces: a container that shares its host's network has none of its own."""
        return [] if self.place is None else [{"privateIpv4Address": self.place.address}]

    def credentials(self, name: str, token: str) -> dict[str, str]:
        """The variables by which SDKs find the role's credentials that the local AWS has under `name`."""
        where = (
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.endpoint}{_CREDENTIALS}/{name}"}
            if self.credentials_host is None
            else {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": f"{_CREDENTIALS}/{name}"}
        )
        return {**where, "AWS_CONTAINER_AUTHORIZATION_TOKEN": token}
