"""What must each MPI be told, so that `mpirun ./app` starts its processes on the nodes of the gang? Pure: hosts and paths in, text out.

Open MPI (4: OMPI_MCA_…, 5: PRTE_MCA_… for its launcher), and Hydra, which is MPICH's and Intel MPI's launcher, each get three things:
the program to call instead of ssh, a list of hosts, and the network to speak over. What the user has set is never set again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from faassupervisor import contract

_LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")
# Open MPI names shared memory by host and by number on the node: nodes that are one host would write into each other's (4.1.4 crashes).
_ON_ONE_MACHINE: Final = {"OMPI_MCA_btl": "self,tcp"}
_WIDEST: Final = 8  # bits: a network wider than that is no network but everything, loopback included


@dataclass(frozen=True, slots=True)
class Host:
    """One node as a launcher sees it. With 0 slots nothing is started there."""

    index: int
    address: str
    slots: int


@dataclass(frozen=True, slots=True)
class Files:
    """Where a node keeps what it tells launchers: `hosts` is SCAR_HOSTFILE, the other two are in the words of Open MPI and of Hydra."""

    hosts: str
    open_mpi: str
    hydra: str
    remote_shell: str


def host_file(hosts: Sequence[Host]) -> str:
    """SCAR_HOSTFILE: every node, in the order given."""
    return "".join(f"{host.address} slots={host.slots}\n" for host in hosts)


def open_mpi_file(hosts: Sequence[Host]) -> str:
    return "".join(f"{name} slots={host.slots}\n" for name, host in _named(hosts) if host.slots)


def hydra_file(hosts: Sequence[Host]) -> str:
    return "".join(f"{name}:{host.slots}\n" for name, host in _named(hosts) if host.slots)


def node_name(index: int) -> str:
    """A name that no resolver knows, for a node whose address a launcher would take for this machine's own."""
    return f"scar-node-{index}"


def settings(
    hosts: Sequence[Host], files: Files, index: int, own: Collection[str], *, interface: str | None = None
) -> dict[str, str]:
    """All variables of one node: the contract's, and what the MPIs need of what is not in `own`, the user's. The main node is the first host.

    `interface` is the name of the network interface that has this node's address.
    """
    wanted = {**_launchers(hosts, files), **_way_back(hosts, interface)}
    launchers = {name: value for name, value in wanted.items() if name not in own}
    return {
        **launchers,
        contract.HOSTFILE: files.hosts,
        contract.NUM_NODES: str(len(hosts)),
        contract.NODE_INDEX: str(index),
        contract.MAIN_HOST: hosts[0].address,
    } | _without_conflicts(_networks(hosts), own)


def network(hosts: Sequence[Host]) -> str | None:
    """The smallest network that holds every node's address, None where it would be everything.

    A container in AWS has a second, link-local interface (169.254…) to the machine's own agent, through which no other node can be
    reached, and Open MPI tries every interface it is not told about.
    """
    if _are_loopback(hosts):
        return str(_LOOPBACK)
    addresses = [int(ipaddress.IPv4Address(host.address)) for host in hosts]
    differing = (min(addresses) ^ max(addresses)).bit_length()
    bits = 32 - differing
    return f"{ipaddress.IPv4Address(addresses[0] >> differing << differing)}/{bits}" if bits >= _WIDEST else None


def _launchers(hosts: Sequence[Host], files: Files) -> Mapping[str, str]:
    shell = files.remote_shell
    return {
        # docs.open-mpi.org/en/v4.1.x, "mca parameters": a colon-separated list of programs to try
        "OMPI_MCA_plm_rsh_agent": shell,
        "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
        "OMPI_MCA_orte_default_hostfile": files.open_mpi,
        "PRTE_MCA_plm_ssh_agent": shell,
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        "PRTE_MCA_prte_default_hostfile": files.open_mpi,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "SHELL": "/bin/sh",  # of a user without a login Open MPI would otherwise say that it knows no shell
        "HYDRA_LAUNCHER": "rsh",
        "HYDRA_LAUNCHER_EXEC": shell,
        "HYDRA_HOST_FILE": files.hydra,
        "I_MPI_HYDRA_BOOTSTRAP": "rsh",
        "I_MPI_HYDRA_BOOTSTRAP_EXEC": shell,
        "I_MPI_HYDRA_HOST_FILE": files.hydra,
        **_ranks_of_intel(hosts),
        **(_ON_ONE_MACHINE if _are_loopback(hosts) else {}),
        "I_MPI_HYDRA_BRANCH_COUNT": "0",  # from 16 nodes on, workers would start others
    }


def _ranks_of_intel(hosts: Sequence[Host]) -> Mapping[str, str]:
    """Intel's mpirun takes from such a file who there is, and from here how many ranks each gets; otherwise every core gets one (2021.18).

    It knows no two numbers here: where nodes differ, `mpirun -machinefile "$HYDRA_HOST_FILE"` reads each node's own.
    """
    slots = {host.slots for host in hosts if host.slots}
    if len(slots) != 1:
        return {}
    (each,) = slots
    return {"I_MPI_PERHOST": str(each)}


def _way_back(hosts: Sequence[Host], interface: str | None) -> Mapping[str, str]:
    """Hydra's helpers call back. They are told the main node's address when it is in the list, and otherwise its name, which may not resolve.

    A host with 0 slots may not be in the list: mpiexec 4.0.2 divides by it.
    """
    if hosts[0].slots or not interface or _are_loopback(hosts):
        return {}
    return {"HYDRA_IFACE": interface, "I_MPI_HYDRA_IFACE": interface}


def _networks(hosts: Sequence[Host]) -> Mapping[str, str]:
    # To include is what a user's own `--mca btl_tcp_if_include eth0` replaces; beside an exclusion of ours Open MPI 4.1.4 would refuse it.
    found = network(hosts)
    names = ("OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include", "PRTE_MCA_prte_if_include")
    return dict.fromkeys(names, found) if found else {}


def _without_conflicts(found: Mapping[str, str], own: Collection[str]) -> dict[str, str]:
    """A user who excludes networks has said which ones to take: both at once are refused by Open MPI."""
    return {
        name: value
        for name, value in found.items()
        if name not in own and name.replace("_if_include", "_if_exclude") not in own
    }


def _named(hosts: Sequence[Host]) -> list[tuple[str, Host]]:
    if not _are_loopback(hosts):
        return [(host.address, host) for host in hosts]
    main, *others = hosts
    return [("localhost", main), *((node_name(host.index), host) for host in others)]


def _are_loopback(hosts: Sequence[Host]) -> bool:
    return any(ipaddress.IPv4Address(host.address) in _LOOPBACK for host in hosts)
