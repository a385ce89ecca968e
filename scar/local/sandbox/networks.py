"""Which network does an engine give its sandboxes: one of their own where that works, else addresses of the loopback, and why?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from scar.errors import ScarError
from scar.local.sandbox import probing
from scar.local.sandbox.hub import HubNetwork
from scar.local.sandbox.loopback import LoopbackNetwork
from scar.local.sandbox.spec import Network, Place, Sandbox, SandboxSpec, Serve

_log = logging.getLogger("scar.local")


class Networks:
    """Of one engine, whose `start` is given. `missing` says why it had to make do with the loopback, once it did. Safe to call from any thread."""

    def __init__(self, scratch: Path, start: Callable[[SandboxSpec], Sandbox]) -> None:
        self._scratch, self._start = scratch, start
        self._proven = False
        self._made: WeakValueDictionary[str, HubNetwork] = WeakValueDictionary()
        self.missing = ""

    def make(self, hostnames: Sequence[str], *, user_namespace: bool, endpoint: str, serve: Serve) -> Network:
        try:
            return self._make(hostnames, user_namespace=user_namespace, serve=serve)
        except (ScarError, OSError) as error:
            self.missing = error.what if isinstance(error, ScarError) else str(error)
            _log.warning("several nodes share this machine's loopback: %s", self.missing)
            return LoopbackNetwork(self._scratch, hostnames, endpoint=endpoint)

    def _make(self, hostnames: Sequence[str], *, user_namespace: bool, serve: Serve) -> HubNetwork:
        network = HubNetwork(self._scratch, hostnames, user_namespace=user_namespace, serve=serve)
        self._made[network.key] = network
        with ExitStack() as failed:
            failed.callback(network.close)
            self._prove(network.places[0])
            failed.pop_all()
        return network

    def _prove(self, place: Place) -> None:
        """Believe in networks only after something ran in one."""
        if self._proven:
            return
        reason = probing.reason_against(lambda spec: self._start(replace(spec, place=place)), self._scratch)
        if reason is not None:
            raise ScarError(reason)
        self._proven = True

    def namespaces_at(self, place: Place | None) -> tuple[int, ...]:
        """Descriptors of what a sandbox enters to be there: a user namespace, if there is one, and a network's; none for the loopback."""
        if place is None or place.address.startswith("127."):
            return ()
        network = self._made.get(place.key)
        if network is None or place.address not in network.namespaces:
            raise ScarError(f"the network of {place.hostname} is closed")
        return network.namespaces[place.address]

    def note(self) -> tuple[str, ...]:
        """For `Isolation.note`."""
        return (f"nodes of one job share this machine's loopback: {self.missing}",) if self.missing else ()
