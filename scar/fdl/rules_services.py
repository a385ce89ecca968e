"""Rules of services of OSCAR clusters."""

from __future__ import annotations

from collections.abc import Sequence

from scar.fdl.places import shown
from scar.fdl.read import Reading
from scar.fdl.services import Service


def services_of_clusters(services: Sequence[Service], reading: Reading) -> None:
    """Add what is wrong with services: what a cluster has to be told, and names that are taken."""
    first: dict[tuple[str, str], str] = {}
    for service in services:
        path = service.path
        if path in reading.failed:
            continue
        _cluster(service, reading)
        if not reading.sound(f"{path}.name"):
            continue
        taken = first.setdefault((service.cluster, service.name), path)
        if taken != path:
            reading.problems.add(
                reading.place(f"{path}.name"),
                f"{path}.name",
                f"the name `{service.name}` is taken by {taken}",
                "Give each service of a cluster its own name.",
            )


def _cluster(service: Service, reading: Reading) -> None:
    path, oscar = service.path, service.oscar
    place = reading.place(path)

    def missing(key: str, fix: str) -> None:
        if f"{path}.{key}" not in reading.failed:
            reading.problems.add(place, path, f"`{key}` is missing", fix)

    if oscar.endpoint is None:
        missing("endpoint", f"Add `endpoint`, the URL of the cluster `{shown(service.cluster)}`.")
    if oscar.image is None:
        missing("image", "Add `image`: what the service runs.")
    if oscar.auth_user is None and oscar.auth_password is not None:
        missing("auth_user", "Add `auth_user`, or remove `auth_password`.")
    if oscar.auth_user is not None and oscar.auth_password is None:
        missing("auth_password", "Add `auth_password: ${env.NAME}`, or remove `auth_user`.")
    if not oscar.ssl_verify:
        reading.problems.warn(
            reading.place(f"{path}.ssl_verify"),
            f"{path}.ssl_verify",
            "the cluster's certificate is not checked: anyone on the way can pretend to be it",
            "Remove `ssl_verify: false`.",
        )
    if oscar.endpoint is not None and oscar.endpoint.startswith("http://") and oscar.auth_password is not None:
        reading.problems.warn(
            reading.place(f"{path}.endpoint"),
            f"{path}.endpoint",
            "the cluster is spoken to without TLS: whoever is on the way can read the password",
            "Write `https://`.",
        )
