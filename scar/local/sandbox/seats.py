"""What every network of sandboxes has on disk, and what a sandbox with a place sees of it: its host name and `/etc/hosts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

from faassupervisor.layers.unpack import remove_tree
from scar.local.sandbox.spec import Bind, Place, SandboxSpec
from scar.local.sandbox.tree import new_name

_NETWORKS: Final = "networks"
_LOCALHOST: Final = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class NetworkFolder:
    """A folder of a network's own, removed when it is left. Its path is the `key` of the network's places."""

    def __init__(self, scratch: Path) -> None:
        sweep_networks(scratch)
        networks = scratch / _NETWORKS
        networks.mkdir(parents=True, exist_ok=True)
        self.path = networks.resolve() / new_name()
        self.path.mkdir(mode=0o755)

    @property
    def key(self) -> str:
        return str(self.path)

    def write_hosts(self, places: Sequence[Place]) -> None:
        """A file for each place, as containers have one each: what a program appends to its own changes no other's."""
        lines = _LOCALHOST + "".join(f"{place.address}\t{place.hostname}\n" for place in places)
        for place in places:
            hosts_file(place).write_text(lines)

    def __enter__(self) -> NetworkFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        remove_tree(self.path)


def hosts_file(place: Place) -> Path:
    return Path(place.key) / f"hosts-{place.address}"


def seated(spec: SandboxSpec) -> SandboxSpec:
    """`spec` as its place wants it; the same when it has none."""
    if spec.place is None:
        return spec
    hosts = Bind(hosts_file(spec.place), "/etc/hosts", read_only=spec.read_only)
    return replace(spec, hostname=spec.place.hostname, binds=(*spec.binds, hosts))


def sweep_networks(scratch: Path) -> None:
    """Remove the folders of starters that are gone."""
    for folder in (scratch / _NETWORKS).glob("scar-local-*"):
        starter = folder.name.split("-")[2]
        if starter.isdigit() and not Path("/proc", starter).exists():
            remove_tree(folder)
