"""A service of a definition as a cluster is told it, and how what a cluster has differs from it. Pure, but for reading the script."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from scar.errors import UsageError
from scar.fdl.providers import Provider
from scar.fdl.services import Service
from scar.fdl.storage import Io
from scar.oscar.cluster import Cluster
from scar.secret import Secret

_OURS: Final = frozenset({"secret", "private"})  # keys of a provider that mean something to functions in AWS only
_HIDDEN: Final = "hidden"  # what a cluster says in place of credentials


def cluster_of(service: Service) -> Cluster:
    """Where the service is to be. Its definition was checked: there is an endpoint."""
    oscar = service.oscar
    assert oscar.endpoint is not None, "the rules of definitions see to it"
    return Cluster(
        name=service.cluster,
        endpoint=oscar.endpoint,
        user=oscar.auth_user,
        password=None if oscar.auth_password is None else oscar.auth_password.reveal(),
        verify=oscar.ssl_verify,
        hidden=tuple(
            secret.reveal() for provider in _used(service).values() for secret in provider.credentials.values()
        ),
    )


def document(service: Service) -> dict[str, Any]:
    """The service's own fields, and no others: neither the cluster's address nor its password."""
    oscar = service.oscar
    fields = {
        "name": oscar.name,
        "image": oscar.image,
        "memory": oscar.memory,
        "cpu": oscar.cpu,
        "log_level": oscar.log_level,
        "script": _script(service),
        "environment": {"variables": dict(oscar.environment)},
        "input": [_io(item) for item in oscar.input],
        "output": [_io(item) for item in oscar.output],
        "storage_providers": _providers(service),
    }
    return {name: value for name, value in fields.items() if value not in (None, {})}


def differences(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the fields in which the cluster has something else. What it adds of its own is no difference."""
    return tuple(name for name, value in wanted.items() if not _within(value, actual.get(name)))


def _within(wanted: Any, actual: Any) -> bool:
    if isinstance(wanted, dict):
        found = actual if isinstance(actual, dict) else {}
        by_name = {str(name).lower(): value for name, value in found.items()}  # `Variables`, in older clusters
        return all(_within(value, found.get(name, by_name.get(name.lower()))) for name, value in wanted.items())
    if isinstance(wanted, list):
        found_list = actual if isinstance(actual, list) else []
        return len(wanted) == len(found_list) and all(map(_within, wanted, found_list))
    if isinstance(wanted, str) and isinstance(actual, str):
        return actual == _HIDDEN or wanted.replace("\r\n", "\n") == actual.replace("\r\n", "\n")
    return bool(wanted == actual)


def _script(service: Service) -> str | None:
    path = service.oscar.script
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the script cannot be sent: {error}", where=f"{service.file}: {service.path}.script"
        ) from error


def _io(item: Io) -> dict[str, Any]:
    filters = {"prefix": list(item.prefix), "suffix": list(item.suffix)}
    return {
        "storage_provider": item.provider,
        "path": item.path,
        **{name: value for name, value in filters.items() if value},
    }


def _used(service: Service) -> dict[str, Provider]:
    used = {item.provider for item in (*service.oscar.input, *service.oscar.output)}
    return {name: provider for name, provider in service.storage_providers.named() if name in used}


def _providers(service: Service) -> dict[str, dict[str, Any]]:
    """With their credentials, which a cluster has to have: it cannot read a parameter of AWS."""
    found: dict[str, dict[str, Any]] = {}
    for name, provider in _used(service).items():
        kind, _, own = name.partition(".")
        if provider.secret is not None:
            raise UsageError(
                f"the credentials of {name} lie in AWS, where no OSCAR cluster can read them",
                where=f"{service.file}: storage_providers.{name}",
                fix="Write them as `${env.NAME}` for this service.",
            )
        found.setdefault(kind, {})[own] = dict(_told(provider))
    return found


def _told(provider: Provider) -> Iterable[tuple[str, Any]]:
    for key in dataclasses.fields(provider):  # type: ignore[arg-type]  # every kind is a dataclass of its keys
        value = getattr(provider, key.name)
        if key.name not in _OURS and value is not None:
            yield key.name, value.reveal() if isinstance(value, Secret) else value
