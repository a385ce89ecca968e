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
SETTINGS = (
    ("ip_unprivileged_port_start", ("0",)),
    ("ping_group_range", ("0 2147483647", "0 0")),
)

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


def make_hub(gateway: str, prefix: int, credentials_host: str) -> tuple[Netlink, int, list[socket.socket]]:
    """The hub's namespace, into which this process goes; its bridge's index and its listening sockets."""
    unshare(CLONE_NEWNET, "network")
    hub = Netlink()
    hub.set_up(LOOPBACK_INDEX)
    hub.add_bridge("hub")
    bridge = socket.if_nametoindex("hub")
    hub.add_address(bridge, gateway, prefix)
    hub.add_address(bridge, credentials_host, 32)
    # A router that knows no way on: what is sent to the outside is answered with "unreachable" at once.
    for name, value in (("ip_forward", "1"), ("icmp_ratelimit", "0")):
        with open(f"/proc/sys/net/ipv4/{name}", "w") as setting:
            setting.write(value)
    return hub, bridge, [listen(gateway, 0), listen(credentials_host, 80)]


def set_freedoms() -> None:
    """Of the namespace that this process is in. Where /proc/sys may not be written, programs do without."""
    for name, values in SETTINGS:
        for value in values:
            try:
                write_text(f"/proc/sys/net/ipv4/{name}", value)
                break
            except OSError:
                continue


def make_place(hub: Netlink, bridge: int, address: str, prefix: int, gateway: str, credentials_host: str) -> int:
    """Another namespace, into which this process goes; a descriptor of it.

    Its default route tells a program which of its addresses is the one that others know, as on a machine of AWS.
    """
    unshare(CLONE_NEWNET, "network")
    namespace = own_namespace("net")
    set_freedoms()
    place = Netlink()
    place.set_up(LOOPBACK_INDEX)
    hub.add_pair(f"to-{address.replace('.', '-')[3:]}", bridge=bridge, peer="eth0", namespace=namespace)
    interface = socket.if_nametoindex("eth0")
    place.set_up(interface)
    place.add_address(interface, address, prefix)
    place.add_neighbour_route(interface, credentials_host)
    place.add_default_route(gateway)
    place.close()
    return namespace


def make(*, user_namespace: bool, addresses: list[str], prefix: int, credentials_host: str) -> list[int]:
    """Descriptors: the two listening sockets', the user namespace's, then each place's. The first address is the hub's."""
    if user_namespace:
        enter_user_namespace()
    gateway, *others = addresses
    hub, bridge, listening = make_hub(gateway, prefix, credentials_host)
    places = [make_place(hub, bridge, address, prefix, gateway, credentials_host) for address in others]
    return [*(one.detach() for one in listening), own_namespace("user"), *places]


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
