"""Places for engines without networks of their own: addresses of this machine's loopback, each gang's in a block that no other has.

All of 127.0.0.0/8 is this machine on Linux, without anybody setting it up. A block is held by an abstract Unix socket of its name: such names are
of one network namespace, as the loopback is, and are gone with the process that holds them.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from scar.errors import ScarError
from scar.local.sandbox.seats import NetworkFolder
from scar.local.sandbox.spec import Place

_SMALL: Final = 250  # places in a /24
_MOST: Final = 65_000
_TRIES: Final = 100


class LoopbackNetwork:
    """See `spec.Network`."""

    own = False
    credentials_host: str | None = None

    def __init__(self, scratch: Path, hostnames: Sequence[str], *, endpoint: str) -> None:
        self.endpoint = endpoint
        with ExitStack() as stack:
            block, held = _take_block(len(hostnames))
            stack.enter_context(held)
            folder = stack.enter_context(NetworkFolder(scratch))
            _check_usable(str(block[1]))
            self.places = tuple(
                Place(str(block[number]), name, folder.key) for number, name in enumerate(hostnames, start=1)
            )
            folder.write_hosts(self.places)
            self._held = stack.pop_all()

    def close(self) -> None:
        self._held.close()


def _take_block(size: int) -> tuple[IPv4Network, socket.socket]:
    """A block of addresses for so many places, and what holds it."""
    if size > _MOST:
        raise ScarError(
            f"a network of {size} places is more than this machine's loopback can have", fix=f"Ask for at most {_MOST}."
        )
    for block in _blocks(size):
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(f"\0scar-local-loopback-{block}")
        except OSError:
            held.close()
            continue
        return block, held
    raise ScarError(
        f"none of {_TRIES} blocks of this machine's loopback addresses is free", fix="End other jobs first."
    )


def _blocks(size: int) -> Iterator[IPv4Network]:
    """At random, so that processes which do not know of each other seldom meet; small blocks and large ones never overlap."""
    for _ in range(_TRIES):
        third, second = random.randrange(256), random.randrange(64, 128)  # noqa: S311  (not a secret)
        yield IPv4Network(f"127.{second}.{third}.0/24") if size <= _SMALL else IPv4Network(f"127.{second + 64}.0.0/16")


def _check_usable(address: str) -> None:
    try:
        with socket.socket() as trial:
            trial.bind((address, 0))
    except OSError as error:
        raise ScarError(
            f"several nodes need loopback addresses of their own, and {address} cannot be used here: {error.strerror}",
            fix="Run this where the kernel is Linux's.",
        ) from error
