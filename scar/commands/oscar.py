"""What `init`, `plan`, `rm` and `ls` do about services of OSCAR clusters: the same questions as for functions, of another server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context
    from scar.fdl.services import Service
    from scar.oscar.cluster import Cluster
    from scar.report import Report


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done for one service: `create`, `update` with the names of what differs, or nothing ('')."""

    cluster: Cluster
    name: str
    verb: str
    changes: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.verb)

    def __str__(self) -> str:
        where = f"in OSCAR cluster {self.cluster.name} at {self.cluster.endpoint}"
        match self.verb:
            case "create":
                return f"+ service {self.name}  ({where})"
            case "update":
                return f"~ service {self.name}  {', '.join(self.changes)}: changed ({where})"
            case "delete":
                return f"- service {self.name}  ({where})"
            case _:
                return f"service {self.name}: nothing to do ({where})"

    def to_json(self) -> dict[str, Any]:
        """Names only: values may be credentials."""
        return {
            "service": self.name,
            "cluster": self.cluster.name,
            "endpoint": self.cluster.endpoint,
            "verb": self.verb or None,
            "changes": list(self.changes),
        }


def planned(context: Context, services: Sequence[Service]) -> tuple[Planned, ...]:
    """What is to be done for the services of a definition. Every cluster is asked before anything is changed anywhere.

    A local AWS has no clusters, and is not to reach for those that people use.
    """
    if services and context.asked_local:
        names = ", ".join(service.name for service in services)
        context.report.complain(f"left out, for the local AWS has no OSCAR clusters: {names}")
        return ()
    return tuple(_plan(service) for service in services)


def show(report: Report, services: Iterable[Planned]) -> None:
    for each in services:
        report.line(str(each))


def carry_out(report: Report, services: Iterable[Planned]) -> list[dict[str, Any]]:
    """Do it; answers what was done as documents. Done twice it changes nothing the second time."""
    told: list[dict[str, Any]] = []
    for each in services:
        report.say(str(each))
        match each.verb:
            case "create":
                each.cluster.put(each.document)
            case "update":
                each.cluster.change(each.document)
            case _:
                pass
        told.append(each.to_json())
    return told


def only(context: Context, services: Sequence[Planned], *, change: bool) -> bool:
    """`init` (with `change`) and `plan` of a definition without functions, for which nobody needs AWS. Answers whether there was anything to do."""
    if change:
        told = carry_out(context.report, services)
    else:
        told = [each.to_json() for each in services]
        if not context.report.json:
            show(context.report, services)
    if context.report.json:
        context.report.document({"services": told})
    return any(services)


def remove(context: Context, args: Namespace) -> tuple[list[dict[str, Any]], bool]:
    """Remove the services that the command's file defines; answers what was done, and whether that is all the file is about."""
    from scar.commands.given import defined
    from scar.oscar.document import cluster_of

    if not args.conf_file:
        return [], False
    definition = defined(args.conf_file, args)
    told: list[dict[str, Any]] = []
    for service in definition.services:
        if context.asked_local:
            context.report.complain(f"left out, for the local AWS has no OSCAR clusters: {service.name}")
            continue
        each = Planned(cluster_of(service), service.name, "delete")
        if each.cluster.remove(service.name):
            context.report.say(str(each))
            told.append(each.to_json())
        else:
            context.report.say(f"service {service.name}: nothing to remove in OSCAR cluster {service.cluster}")
    return told, bool(definition.services) and not definition.functions


def ls(context: Context, args: Namespace) -> int:
    """The services of the clusters that a definition names."""
    from scar.commands.given import defined
    from scar.oscar.document import cluster_of

    clusters = {service.cluster: cluster_of(service) for service in defined(args.conf_file, args).services}
    rows = [
        {"cluster": name, **{key: str(found.get(key, "")) for key in ("name", "image", "memory", "cpu")}}
        for name, cluster in clusters.items()
        for found in sorted(cluster.services(), key=lambda service: str(service.get("name")))
    ]
    if context.report.json:
        context.report.document(rows)
    else:
        columns = ("cluster", "name", "image", "memory", "cpu")
        context.report.table(rows, columns, empty="The clusters of this definition have no services.")
    return 0


def _plan(service: Service) -> Planned:
    from scar.oscar.document import cluster_of, differences, document

    cluster, wanted = cluster_of(service), document(service)
    actual = cluster.service(service.name)
    if actual is None:
        return Planned(cluster, service.name, "create", document=wanted)
    changes = differences(wanted, actual)
    return Planned(cluster, service.name, "update" if changes else "", changes, wanted)
