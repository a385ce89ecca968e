"""Real MPIs, each with its own `mpirun`, over the agents of a gang; and what they are told, in pure form."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faassupervisor.contract import Gang
from faassupervisor.nodes import mpi, mpi_files
from tests.supervisor.batch_lab import Handing
from tests.supervisor.conftest import has
from tests.supervisor.gang_lab import GangLab, ended, gangs, handing, left_by

__all__ = ["gangs", "handing"]

FILES = mpi.Files("/w/hosts", "/w/open-mpi", "/w/hydra", "/w/rsh")
PROGRAM = r"""
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
int main(int count, char **words) {
    int rank, size, sum = 0;
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == size - 1 && count > 1) {
        if (!strcmp(words[1], "abort")) MPI_Abort(MPI_COMM_WORLD, 42);
        if (!strcmp(words[1], "signal")) raise(SIGKILL);
    }
    if (rank == 0) printf("%d ranks, sum %d\n", size, sum);
    MPI_Finalize();
    return count > 1 && rank == size - 1 ? 3 : 0;
}
"""


needs_mpi = pytest.mark.skipif(
    not (has("mpicc.openmpi") and has("mpicc.mpich")), reason="Open MPI and MPICH are not installed"
)


@needs_mpi
@pytest.mark.parametrize(
    ("made_by", "words", "codes"), [("openmpi", ("3",), (3,)), ("mpich", ("abort", "signal", "3"), (42, 255, 3))]
)
def test_mpirun_starts_a_rank_for_each_slot_of_every_node_and_its_exit_code_is_the_jobs(
    gangs: GangLab, tmp_path: Path, made_by: str, words: tuple[str, ...], codes: tuple[int, ...]
) -> None:
    """T1-21, MP6: a rank that ends with 3, one that is killed, one that aborts with 42; MP14: a node without slots."""
    program = tmp_path / "program"
    (tmp_path / "program.c").write_text(PROGRAM)
    subprocess.run([f"mpicc.{made_by}", "-o", program, tmp_path / "program.c"], check=True, timeout=60)
    *first, last = words
    between = "".join(f"mpirun.{made_by} {program} {word} >/dev/null 2>&1; echo ended $?\n" for word in first)
    script = f"{between}exec mpirun.{made_by} {program} {last}"
    gang = [Gang(slots=slots, start_timeout_s=20) for slots in (2, 0, 1)]
    if made_by == "openmpi":
        nodes = gangs.start(gangs.function(script), 3, gang=gang)
    else:  # a job that was submitted by hand: no ledger is asked
        nodes = gangs.start(gangs.handing.lab.function(script, mode="batch"), 3, gang=gang, by_hand="{}")
    assert ended(nodes, 40) == {0: codes[-1], 1: 0, 2: 0}
    written = nodes[0].written()
    assert [line for line in written if line.startswith("ended")] == [f"ended {code}" for code in codes[:-1]]
    assert "3 ranks, sum 3" in written
    assert '"errorType":"ScriptFailed"' in nodes[0].log.splitlines()[-1] and "the job has failed" in nodes[1].log
    assert gangs.handing.outputs() == [] and left_by(nodes) == []


def test_on_one_machine_nothing_is_said_of_mpis_for_lambda_says_nothing_either(handing: Handing) -> None:
    """T1-04: a script finds the same environment in both. What the function says of them stays."""
    show = "echo ${OMPI_ALLOW_RUN_AS_ROOT-no} ${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM-no} ${SCAR_HOSTFILE-no}"
    function = handing.lab.function(show, mode="batch", environment={"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "0"})
    job = handing.job(function, "", job_id="by-hand", EVENT="{}")
    assert job.end() == 0
    assert "no 0 no\n" in job.log


def test_host_files_say_what_each_launcher_reads() -> None:
    """MP14: a node without slots is a node all the same, but nothing is started there."""
    hosts = (mpi.Host(1, "192.0.2.7", 4), mpi.Host(0, "192.0.2.5", 0), mpi.Host(2, "192.0.2.6", 2))
    assert mpi.host_file(hosts) == "192.0.2.7 slots=4\n192.0.2.5 slots=0\n192.0.2.6 slots=2\n"
    assert mpi.open_mpi_file(hosts) == "192.0.2.7 slots=4\n192.0.2.6 slots=2\n"
    assert mpi.hydra_file(hosts) == "192.0.2.7:4\n192.0.2.6:2\n"


def test_nodes_on_one_machine_have_names_that_no_launcher_takes_for_its_own() -> None:
    hosts = (mpi.Host(1, "127.0.0.2", 1), mpi.Host(0, "127.0.0.3", 2))
    assert mpi.host_file(hosts) == "127.0.0.2 slots=1\n127.0.0.3 slots=2\n"
    assert mpi.hydra_file(hosts) == "localhost:1\nscar-node-0:2\n"
    assert mpi.network(hosts) == "127.0.0.0/8"
    assert mpi.settings(hosts, FILES, 1, ())["OMPI_MCA_btl"] == "self,tcp"  # shared memory is named by host


def test_each_mpi_is_told_whom_to_call_which_hosts_and_which_network() -> None:
    hosts = (mpi.Host(0, "192.0.2.5", 1), mpi.Host(1, "192.0.2.6", 1))
    said = mpi.settings(hosts, FILES, 1, ())
    assert {name: value for name, value in said.items() if name.startswith("SCAR_")} == {
        "SCAR_HOSTFILE": "/w/hosts",
        "SCAR_NUM_NODES": "2",
        "SCAR_NODE_INDEX": "1",
        "SCAR_MAIN_HOST": "192.0.2.5",
    }
    called = ("OMPI_MCA_plm_rsh_agent", "PRTE_MCA_plm_ssh_agent", "HYDRA_LAUNCHER_EXEC", "I_MPI_HYDRA_BOOTSTRAP_EXEC")
    assert {said[name] for name in called} == {"/w/rsh"}
    assert said["OMPI_MCA_orte_default_hostfile"] == said["PRTE_MCA_prte_default_hostfile"] == "/w/open-mpi"
    assert said["HYDRA_HOST_FILE"] == said["I_MPI_HYDRA_HOST_FILE"] == "/w/hydra"
    assert said["OMPI_MCA_btl_tcp_if_include"] == said["OMPI_MCA_oob_tcp_if_include"] == "192.0.2.4/30"
    assert said["OMPI_ALLOW_RUN_AS_ROOT"] == said["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"


def test_a_main_node_without_slots_is_called_back_by_its_interface() -> None:
    """MP14: Hydra tells its helpers the main node's address only if it is in the list of hosts."""
    hosts = [mpi.Host(0, "192.0.2.5", 0), mpi.Host(1, "192.0.2.6", 1)]
    assert mpi.settings(hosts, FILES, 0, (), interface="eth0")["HYDRA_IFACE"] == "eth0"
    hosts[0] = mpi.Host(0, "192.0.2.5", 1)
    assert "HYDRA_IFACE" not in mpi.settings(hosts, FILES, 0, (), interface="eth0")
    assert (mpi_files.interface_of("127.0.0.1"), mpi_files.interface_of("192.0.2.250")) == ("lo", None)


def test_intels_mpirun_is_told_how_many_ranks_each_node_takes_where_all_take_as_many() -> None:
    """MP14: of a node without slots it hears nothing, and of different ones from the host file alone."""
    equal = (mpi.Host(0, "192.0.2.5", 0), mpi.Host(1, "192.0.2.6", 3), mpi.Host(2, "192.0.2.7", 3))
    different = (mpi.Host(0, "192.0.2.5", 1), mpi.Host(1, "192.0.2.6", 3))
    assert mpi.settings(equal, FILES, 0, ())["I_MPI_PERHOST"] == "3"
    assert "I_MPI_PERHOST" not in mpi.settings(different, FILES, 0, ())


@given(st.data())
def test_what_the_user_has_set_is_never_set_again(data: st.DataObject) -> None:
    """Nor is a network named beside one that the user excludes: Open MPI refuses both at once."""
    hosts = (mpi.Host(0, "192.0.2.5", 1), mpi.Host(1, "192.0.2.6", 1))
    usual = mpi.settings(hosts, FILES, 0, ())
    settable = [name for name in usual if not name.startswith("SCAR_")]
    own = data.draw(st.sets(st.sampled_from([*settable, "OMPI_MCA_btl_tcp_if_exclude", "PATH"])))
    said = mpi.settings(hosts, FILES, 0, own)
    gone = {"OMPI_MCA_btl_tcp_if_include"} if "OMPI_MCA_btl_tcp_if_exclude" in own else set()
    assert said == {name: value for name, value in usual.items() if name not in own | gone}


@given(st.lists(st.ip_addresses(v=4, network="10.0.0.0/8"), min_size=1, unique=True))
def test_the_network_holds_every_node_and_no_link_local_address(addresses: list[ipaddress.IPv4Address]) -> None:
    """In AWS every container has an interface in 169.254.0.0/16, through which no other node is reached."""
    found = mpi.network([mpi.Host(index, str(address), 1) for index, address in enumerate(addresses)])
    assert found is not None
    network = ipaddress.ip_network(found)
    assert all(address in network for address in addresses)
    assert not network.overlaps(ipaddress.ip_network("169.254.0.0/16"))
    halves = network.subnets() if network.prefixlen < 32 else ()
    assert not any(all(address in half for address in addresses) for half in halves)


def test_no_network_is_named_where_it_would_be_everything() -> None:
    assert mpi.network([mpi.Host(0, "10.0.0.1", 1), mpi.Host(1, "192.168.0.1", 1)]) is None


@given(st.lists(st.tuples(st.ip_addresses(v=4, network="10.0.0.0/8"), st.integers(0, 200)), min_size=1))
def test_as_many_ranks_as_slots_are_in_every_host_file(nodes: list[tuple[ipaddress.IPv4Address, int]]) -> None:
    hosts = [mpi.Host(index, str(address), slots) for index, (address, slots) in enumerate(nodes)]
    total = sum(slots for _, slots in nodes)
    for text, mark in ((mpi.host_file(hosts), "="), (mpi.open_mpi_file(hosts), "="), (mpi.hydra_file(hosts), ":")):
        assert sum(int(line.rpartition(mark)[2]) for line in text.splitlines()) == total


@pytest.mark.parametrize(
    ("command_line", "arguments", "words"),
    [
        (["/l/ld.so", "--library-path", "/l", "/b/python3", "-I", "-S", "-B", "/opt/scar/app"], 0, 7),
        (["/b/python3", "-B", "-m", "faassupervisor", "--function", "/f"], 2, 2),
    ],
)
def test_the_remote_shell_runs_in_the_agents_own_python(command_line: list[str], arguments: int, words: int) -> None:
    assert mpi_files.interpreter(command_line, arguments) == command_line[:words]
