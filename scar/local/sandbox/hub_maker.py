"""The program that makes a network of sandboxes: network namespaces around a bridge, handed over as open descriptors.

    hub: bridge 10.x.y.1 and 169.254.170.2, two listening sockets ──veth── place 1: eth0 10.x.y.2
                                                                  ──veth── place 2: eth0 10.x.y.3 …

A program of its own because what makes a namespace is in it; run by `hub.py`, never imported by the rest of SCAR. It ends at once: a namespace
lives as long as a descriptor of it does, and all of them are in the process that started this one. Nothing has to be swept when that dies.
No namespace has a way to this machine's own network, and the programs in them have no rights over their interfaces.
"""

# Like the warden's modules, this one does without pathlib, json and typing, for its start.

from __future__ import annotations

import os
import resource
import socket

from scar.local.sandbox.kernel import CLONE_NEWNET, CLONE_NEWUSER, SetUpError, checked, libc
from scar.local.sandbox.netlink import LOOPBACK_INDEX, Netlink
from scar.local.sandbox.watch import write_text

MESSAGE_DESCRIPTORS = 200  # the kernel takes 253 in one message (SCM_MAX_FD)
BACKLOG = 1024
# As Docker sets them for a container with a network of its own: any port may be listened on, and `ping` works (moby, oci/defaults.go and
# daemon_unix.go). Of a group that a user namespace does not know the kernel will not hear, so root's alone comes next.
PLACE_SETTINGS = (("ip_unprivileged_port_start", ("0",)), ("ping_group_range", ("0 2147483647", "0 0")))
HUB_SETTINGS = (("icmp_ratelimit", ("0",)), ("icmp_echo_ignore_all", ("1",)))

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def unshare(flags: int, what: str) -> None:
    checked(libc.unshare(flags), f"make a {what} namespace")


def enter_user_namespace() -> None:
    """As its root: the rights over network namespaces that an ordinary user has not."""
    user, group = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER, "user")
    write_text("/proc/self/setgroups", "deny")
    write_text("/proc/self/uid_map", f"0 {user} 1")
    write_text("/proc/self/gid_map", f"0 {group} 1")


def own_namespace(kind: str) -> int:
    return os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)


def listen(address: str, port: int) -> socket.socket:
    listening = socket.socket()
    listening.bind((address, port))
    listening.listen(BACKLOG)
    return listening


def set_all(settings: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    """Of the namespace that this process is in, the first value that the kernel takes. Where /proc/sys may not be written, nothing is lost but comfort."""
    for name, values in settings:
        for value in values:
            try:
                write_text(f"/proc/sys/net/ipv4/{name}", value)
                break
            except OSError:
                continue


class Hub:
    """The namespace in the middle, in which this process is from now on: a bridge, and the only two sockets that anybody listens on.

    It takes every address of the world for its own, where nobody listens: what a place sends to the outside is refused at once. Being told
    "unreachable" would be more to the point, but the kernel says that once a second, and a program would wait for the rest of its questions.
    """

    def __init__(self, gateway: str, prefix: int, credentials_host: str) -> None:
        unshare(CLONE_NEWNET, "network")
        set_all(HUB_SETTINGS)
        self.gateway, self.prefix, self.credentials_host = gateway, prefix, credentials_host
        self.links = Netlink()
        self.links.set_up(LOOPBACK_INDEX)
        self.links.take_all_as_own()
        self.links.add_bridge("hub")
        self.bridge = socket.if_nametoindex("hub")
        self.links.add_address(self.bridge, gateway, prefix)
        self.links.add_address(self.bridge, credentials_host, 32)
        self.listening = [listen(gateway, 0), listen(credentials_host, 80)]


def make_place(hub: Hub, address: str) -> int:
    """Another namespace, into which this process goes; a descriptor of it.

    Its default route tells a program which of its addresses is the one that others know, as on a machine of AWS.
    """
    unshare(CLONE_NEWNET, "network")
    set_all(PLACE_SETTINGS)
    namespace = own_namespace("net")
    links = Netlink()
    links.set_up(LOOPBACK_INDEX)
    hub.links.add_pair(f"to-{address.replace('.', '-')[3:]}", bridge=hub.bridge, peer="eth0", namespace=namespace)
    interface = socket.if_nametoindex("eth0")
    links.set_up(interface)
    links.add_address(interface, address, hub.prefix)
    links.add_neighbour_route(interface, hub.credentials_host)
    links.add_default_route(hub.gateway)
    links.close()
    return namespace


def make(*, user_namespace: bool, addresses: list[str], prefix: int, credentials_host: str) -> list[int]:
    """Descriptors: the two listening sockets', the user namespace's, then each place's. The first address is the hub's."""
    if user_namespace:
        enter_user_namespace()
    gateway, *others = addresses
    hub = Hub(gateway, prefix, credentials_host)
    places = [make_place(hub, address) for address in others]
    return [*(one.detach() for one in hub.listening), own_namespace("user"), *places]


def main(control: int, user_namespace: int, prefix: int, *addresses: str) -> NoReturn:
    """Tell the starter over `control`: one message for each bundle of descriptors, or what went wrong."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    credentials_host, *rest = addresses
    with socket.socket(fileno=control) as channel:
        try:
            made = make(
                user_namespace=bool(user_namespace), addresses=rest, prefix=prefix, credentials_host=credentials_host
            )
        except (SetUpError, OSError) as error:
            channel.send(str(error).encode(errors="surrogateescape"))
        else:
            for start in range(0, len(made), MESSAGE_DESCRIPTORS):
                socket.send_fds(channel, [b"ok"], made[start : start + MESSAGE_DESCRIPTORS])
    os._exit(0)
