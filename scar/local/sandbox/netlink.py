"""Links, addresses and routes of a network namespace: the few requests of rtnetlink(7) that a network of sandboxes is made of.

Plain bytes instead of a library: the program that needs them runs before every gang, and importing one would take longer than all its work.
Numbers are from linux/rtnetlink.h, if_link.h, if_addr.h and veth.h.
"""

# Like the warden's modules, this one does without pathlib, json and typing, for its program's start.

from __future__ import annotations

import os
import socket
import struct

from scar.local.sandbox.kernel import SetUpError

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 20, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
NLMSG_ERROR = 2
IFF_UP = 1
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_FD = 3, 10, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RT_TABLE_MAIN, RTPROT_STATIC = 254, 4
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST = 0, 253, 254
RTN_UNICAST, RTN_LOCAL = 1, 2
LOOPBACK_INDEX = 1


def attribute(kind: int, content: bytes) -> bytes:
    length = 4 + len(content)
    return struct.pack("=HH", length, kind) + content + bytes(-length % 4)


def named(name: str) -> bytes:
    return attribute(IFLA_IFNAME, name.encode() + b"\0")


def link(index: int = 0, *, up: bool = True) -> bytes:
    """An interface's header (ifinfomsg)."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)


def packed(address: str) -> bytes:
    return socket.inet_aton(address)


class Netlink:
    """Speaks to the network namespace in which it was made, wherever its process goes later."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._number = 0

    def close(self) -> None:
        self._socket.close()

    def set_up(self, index: int) -> None:
        self._ask("bring an interface up", RTM_NEWLINK, 0, link(index))

    def add_bridge(self, name: str) -> None:
        kind = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"bridge"))
        self._ask("make a bridge", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link() + named(name) + kind)

    def add_pair(self, name: str, *, bridge: int, peer: str, namespace: int) -> None:
        """Two connected interfaces: `name` as a port of the bridge, `peer`, not yet up, in the namespace behind the descriptor."""
        other = link(up=False) + named(peer) + attribute(IFLA_NET_NS_FD, struct.pack("=i", namespace))
        data = attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, other))
        kind = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"veth") + data)
        port = named(name) + attribute(IFLA_MASTER, struct.pack("=i", bridge))
        self._ask("make a pair of interfaces", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link() + port + kind)

    def add_address(self, index: int, address: str, prefix: int) -> None:
        mask = (1 << 32 - prefix) - 1
        broadcast = (int.from_bytes(packed(address), "big") | mask).to_bytes(4, "big")
        header = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, 0, index)
        body = header + attribute(IFA_LOCAL, packed(address)) + attribute(IFA_ADDRESS, packed(address))
        body += attribute(IFA_BROADCAST, broadcast) if prefix < 31 else b""
        self._ask(f"give an interface {address}", RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)

    def add_neighbour_route(self, index: int, address: str) -> None:
        """`address` is directly behind the interface, though no network of it says so."""
        where = attribute(RTA_DST, packed(address)) + attribute(RTA_OIF, struct.pack("=i", index))
        self._add_route(32, RT_SCOPE_LINK, RTN_UNICAST, where)

    def add_default_route(self, gateway: str) -> None:
        self._add_route(0, RT_SCOPE_UNIVERSE, RTN_UNICAST, attribute(RTA_GATEWAY, packed(gateway)))

    def take_all_as_own(self) -> None:
        """Every address that no other route is for is this namespace's own."""
        self._add_route(0, RT_SCOPE_HOST, RTN_LOCAL, attribute(RTA_OIF, struct.pack("=i", LOOPBACK_INDEX)))

    def _add_route(self, prefix: int, scope: int, kind: int, where: bytes) -> None:
        header = struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, kind, 0)
        self._ask("make a route", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, header + where)

    def _ask(self, what: str, kind: int, flags: int, body: bytes) -> None:
        self._number += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST | NLM_F_ACK, self._number, 0)
        self._socket.send(header + body)
        answer = self._socket.recv(65_536)
        (answered,) = struct.unpack_from("=H", answer, 4)
        (number,) = struct.unpack_from("=I", answer, 8)
        if answered != NLMSG_ERROR or number != self._number:
            raise SetUpError(f"{what}: the kernel's answer is not understood")
        (error,) = struct.unpack_from("=i", answer, 16)
        if error:
            raise SetUpError(f"{what}: {os.strerror(-error)}")
