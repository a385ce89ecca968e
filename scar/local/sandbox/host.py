"""No sandbox at all: the program as a process of this machine. For a look at the product where nothing else works, never by default."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from scar.local.sandbox import probing
from scar.local.sandbox.loopback import LoopbackNetwork
from scar.local.sandbox.reach import may_switch_user
from scar.local.sandbox.restrictions import filter_of
from scar.local.sandbox.spec import Isolation, Network, SandboxSpec, Serve
from scar.local.sandbox.tree import Start, Tree, layer_path, new_name, start_tree

_MOVED: Final = "/opt/scar/"


class Host:
    """Runs argv as given, but what names the agent's folder is taken from the image. TMPDIR is private; the rest is shared."""

    name = "host"
    isolation = Isolation(
        files="none: everything this user can reach; the image's own files are not seen",
        processes="none",
        network="none",
        memory="watched 4 to 20 times a second",
        note="the program runs on this machine itself; only its end is taken care of; started by root, it is root where its folder is root's alone",
    )

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def probe(self) -> str | None:
        answer = str(probing.make_probe_root(self._scratch) / "answer")
        return probing.reason_against(partial(self._start, argv=(answer,)), self._scratch)

    def start(self, spec: SandboxSpec) -> Tree:
        argv = tuple(f"{spec.rootfs}{part}" if part.startswith(_MOVED) else part for part in spec.argv)
        return self._start(spec, argv=argv)

    def network(self, hostnames: Sequence[str], *, endpoint: str, serve: Serve) -> Network:
        return LoopbackNetwork(self._scratch, hostnames, endpoint=endpoint)

    def _start(self, spec: SandboxSpec, *, argv: tuple[str, ...]) -> Tree:
        name = new_name()
        layer = layer_path(self._scratch, name)
        folder = spec.working_directory
        if folder.startswith(_MOVED):
            folder = f"{spec.rootfs}{folder}"
        start = Start(
            mode="bare",
            argv=argv,
            environment={**spec.environment, "TMPDIR": str(layer / "tmp")},
            working_directory=folder if folder != "/" and Path(folder).is_dir() else "/",
            switch_user=may_switch_user(spec.uid, spec.rootfs, self._scratch),
            layer=layer,
            seccomp=filter_of(spec.restrictions),
        )
        return start_tree(spec, start, name=name)
