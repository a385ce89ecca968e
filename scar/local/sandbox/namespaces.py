"""Namespaces of the kernel: our own program first, bubblewrap where only a program that the system trusts may make them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from scar.errors import ScarError
from scar.local.sandbox import probing
from scar.local.sandbox.bounds import Groups, find_groups, sweep_groups
from scar.local.sandbox.bubblewrap import bubblewrap_argv
from scar.local.sandbox.loopback import LoopbackNetwork
from scar.local.sandbox.networks import Networks
from scar.local.sandbox.restrictions import filter_of
from scar.local.sandbox.seats import seated
from scar.local.sandbox.spec import Isolation, Network, SandboxSpec, Serve
from scar.local.sandbox.tree import SetUpError, Start, Tree, layer_path, new_name, start_tree, sweep_layers

Variant = Literal["root", "user", "bwrap"]


def usable_variants() -> tuple[Variant, ...]:
    """The ways to try, best first. Real root needs no user namespace, and without one the image's file modes mean what they say."""
    return ("root", "user") if os.geteuid() == 0 else ("user", "bwrap")


@dataclass(frozen=True, slots=True)
class _Ways:
    """What was found to work: the variant, the control groups, and whether overlay mounts are refused (then the root is copied)."""

    variant: Variant
    groups: Groups | None
    copied: bool = False


class Namespaces:
    """Mount, process, IPC and host name namespaces, a read-only or overlaid root, no capabilities. The network is this machine's."""

    name = "namespaces"

    def __init__(
        self,
        scratch: Path,
        *,
        variants: Sequence[Variant] | None = None,
        control_groups: bool = True,
        overlay: bool = True,
    ) -> None:
        self._scratch = scratch
        self._variants = tuple(variants) if variants is not None else usable_variants()
        self._control_groups, self._overlay = control_groups, overlay
        self._ways: _Ways | None = None
        self._networks = Networks(scratch, self.start)

    @property
    def isolation(self) -> Isolation:
        ways = self._ways
        notes = []
        if ways is None or ways.variant != "root":
            notes.append("every file of the image belongs to the function's user")
        if ways is None or ways.groups is None:
            notes.append("a tree with more processes than allowed is ended")
        return Isolation(
            files="only the image, what is bound and a private /tmp",
            processes="own process namespace",
            network="shared with this machine",
            memory=f"watched 4 to 20 times a second, a control group (version {ways.groups.version}) behind it"
            if ways and ways.groups
            else "watched 4 to 20 times a second",
            note="; ".join((*notes, *self._networks.note())),
        )

    def probe(self) -> str | None:
        try:
            self._found()
        except ScarError as error:
            return error.what
        return None

    def start(self, spec: SandboxSpec) -> Tree:
        ways, spec = self._found(), seated(spec)
        try:
            return self._start(spec, ways=ways)
        except SetUpError as error:
            if spec.read_only or ways.copied or not error.what.startswith("mount overlay"):
                raise
            self._ways = replace(ways, copied=True)
            return self._start(spec, ways=self._ways)

    def network(self, hostnames: Sequence[str], *, endpoint: str, serve: Serve) -> Network:
        ways = self._found()
        if ways.variant == "bwrap":
            return LoopbackNetwork(self._scratch, hostnames, endpoint=endpoint)
        user_namespace = ways.variant == "user"
        return self._networks.make(hostnames, user_namespace=user_namespace, endpoint=endpoint, serve=serve)

    def _found(self) -> _Ways:
        if self._ways is not None:
            return self._ways
        groups = find_groups() if self._control_groups else None
        reasons: list[str] = []
        for variant in self._variants:
            for candidate in dict.fromkeys((groups, None)):
                ways = _Ways(variant, candidate, copied=not self._overlay)
                reason = probing.reason_against(partial(self._start, ways=ways), self._scratch)
                if reason is None:
                    self._ways = ways
                    self._sweep(ways)
                    return ways
                if not reason.startswith("cgroup: "):
                    break
            reasons.append(f"{variant}: {reason}")
        raise ScarError("; ".join(reasons), fix="Allow user namespaces, install bubblewrap, or run as root.")

    def _start(self, spec: SandboxSpec, *, ways: _Ways) -> Tree:
        name = new_name()
        layer = layer_path(self._scratch, name)
        if ways.variant == "bwrap":
            return start_tree(spec, _bubblewrap_start(spec, layer), name=name)
        start = Start(
            mode="namespaces",
            argv=spec.argv,
            environment=dict(spec.environment),
            working_directory=spec.working_directory,
            user_namespace=ways.variant == "user",
            switch_user=ways.variant == "root",
            layer=None if spec.read_only else layer,
            copied=ways.copied and not spec.read_only,
            groups=ways.groups,
            seccomp=filter_of(spec.restrictions),
            network=self._networks.namespaces_at(spec.place),
            binds=tuple((str(bind.source.resolve(strict=True)), bind.target, bind.read_only) for bind in spec.binds),
        )
        return start_tree(spec, start, name=name)

    def _sweep(self, ways: _Ways) -> None:
        sweep_layers(self._scratch)
        if ways.groups is not None:
            sweep_groups(ways.groups)


def _bubblewrap_start(spec: SandboxSpec, layer: Path) -> Start:
    if os.geteuid() == 0:  # root inside would be the machine's own, with its /proc/sys open for writing
        raise ScarError("bubblewrap is for ordinary users")
    program = shutil.which("bwrap")
    if program is None:
        raise ScarError("bwrap is not on PATH", fix="Install it: `apt install bubblewrap`.")
    kept = None if spec.read_only else layer
    call_filter = filter_of(spec.restrictions)
    return Start(
        mode="bare",
        argv=bubblewrap_argv(program, spec, kept, filtered=bool(call_filter)),
        filter_file=call_filter,
        environment=dict(spec.environment),
        working_directory="/",
        drop=False,  # it makes its namespaces with the rights it has, and gives them up itself
        layer=kept,
        copied=kept is not None,
        depth=2,
    )
