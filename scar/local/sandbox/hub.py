"""A network of sandboxes in network namespaces of their own: what `hub_maker.py` made, held, served and let go."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from scar.errors import ScarError
from scar.local.sandbox.seats import NetworkFolder
from scar.local.sandbox.spec import Place, Serve
from scar.local.sandbox.tree import helper_argv

# Of the container agent's; SDKs look for a role's credentials nowhere else. Source: AmazonECS/latest/developerguide/task-iam-roles
CREDENTIALS_HOST: Final = "169.254.170.2"
_SMALL: Final = 250  # places in a /24
_MOST: Final = 1000  # as AWS Batch; the kernel bridges 1023 interfaces (BR_MAX_PORTS)
_MAKE_S: Final = 60.0
_MESSAGE_BYTES: Final = 4096
_MESSAGE_DESCRIPTORS: Final = 253


class HubNetwork:
    """See `spec.Network`. `namespaces` are the descriptors that a sandbox at a place enters: user namespace, if there is one, and network.

    Raises ScarError when this machine or this user may not make it.
    """

    own = True
    credentials_host: str | None = CREDENTIALS_HOST

    def __init__(self, scratch: Path, hostnames: Sequence[str], *, user_namespace: bool, serve: Serve) -> None:
        block = _block(len(hostnames))
        gateway, *addresses = [str(block[number]) for number in range(1, len(hostnames) + 2)]
        with ExitStack() as stack:
            folder = stack.enter_context(NetworkFolder(scratch))
            made = _made([gateway, *addresses], block.prefixlen, user_namespace=user_namespace)
            for descriptor in made[2:]:
                stack.callback(os.close, descriptor)
            listening, credentials = (stack.enter_context(socket.socket(fileno=one)) for one in made[:2])
            user, *networks = made[2:]
            self.endpoint = f"http://{gateway}:{listening.getsockname()[1]}"
            self.places = tuple(
                Place(address, name, folder.key) for address, name in zip(addresses, hostnames, strict=True)
            )
            self.namespaces: Mapping[str, tuple[int, ...]] = {
                address: (user, network) if user_namespace else (network,)
                for address, network in zip(addresses, networks, strict=True)
            }
            folder.write_hosts(self.places)
            stack.enter_context(serve(listening))
            stack.enter_context(serve(credentials))
            self.key = folder.key
            self._held = stack.pop_all()

    def close(self) -> None:
        self.namespaces = {}  # before the numbers may mean other files
        self._held.close()


def _block(size: int) -> IPv4Network:
    """Any private one: nothing of this machine's own network is seen in these namespaces."""
    if size > _MOST:
        raise ScarError(f"a network of {size} places is too large", fix=f"Ask for at most {_MOST}.")
    second, third = random.randrange(256), random.randrange(256)  # noqa: S311  (not a secret)
    return IPv4Network(f"10.{second}.{third}.0/24" if size <= _SMALL else f"10.{second}.0.0/16")


def _made(addresses: list[str], prefix: int, *, user_namespace: bool) -> list[int]:
    """All the descriptors, this process's now."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            control = theirs.fileno()
            call: tuple[int | str, ...] = (control, int(user_namespace), prefix, CREDENTIALS_HOST, *addresses)
            maker = subprocess.Popen(
                helper_argv("hub_maker", *call),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(control,),
                env={},
                cwd="/",
            )
        with maker, ExitStack() as failed:
            failed.callback(maker.kill)
            ours.settimeout(_MAKE_S)
            made: list[int] = []
            said = ""
            for told, descriptors in _messages(ours):
                made += descriptors
                for descriptor in descriptors:
                    failed.callback(os.close, descriptor)
                said = said or told
            if said or len(made) != len(addresses) + 2:
                raise ScarError(said or f"only {len(made)} of {len(addresses) + 2} descriptors arrived")
            failed.pop_all()
    return made


def _messages(channel: socket.socket) -> Iterator[tuple[str, list[int]]]:
    """What the maker says until it ends: what went wrong, or descriptors."""
    while True:
        try:
            text, descriptors, flags, _ = socket.recv_fds(
                channel, _MESSAGE_BYTES, _MESSAGE_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except TimeoutError:
            yield f"making a network took more than {_MAKE_S:.0f} s", []
            return
        if not text:
            return
        cut = bool(flags & socket.MSG_CTRUNC)
        told = "" if text == b"ok" else text.decode(errors="replace")
        yield "too many open files" if cut else told, descriptors
