"""mpirun without a host file, a key or a server: on one node and on many, on unlike ones, with either MPI."""

from __future__ import annotations

import pytest

from tests.e2e.mpi import images
from tests.e2e.mpi.conftest import MPIS
from tests.e2e.mpi.gangs import Gangs, hosts

SOLVE = ("echo grid = 12 >parameters", "mpirun poisson parameters $KEY.txt", "rm parameters")


@pytest.mark.parametrize("mpi", MPIS)
@pytest.mark.parametrize("nodes", [1, 2, 4, 8])
def test_all_nodes_add_up_to_what_is_known_beforehand(gangs: Gangs, mpi: str, nodes: int) -> None:
    """MP1, MP13: an allreduce over as many ranks as there are nodes, each on a host of its own. Batch starts workers in random order."""
    key = f"size-{nodes}"
    job = gangs.job(gangs.submit(mpi, nodes, key, f"KEY={key}", *SOLVE))
    assert (job["status"], job["attempts"][-1]["container"]["exitCode"]) == ("SUCCEEDED", 0)
    result = gangs.output(mpi, f"{key}.txt").splitlines()
    assert f"ranks = {nodes}" in result
    assert len(set(hosts(result))) == nodes


def test_slots_say_how_many_ranks_a_node_takes(gangs: Gangs) -> None:
    """MP13, MP14: the main node is node 1; node 0 takes two ranks and node 2 none. The host file tells of all three."""
    job_id = gangs.put("uneven", "uneven", "mpirun hello", "cp $SCAR_HOSTFILE hosts", "echo $SCAR_NODE_INDEX >index")
    assert gangs.job(job_id)["status"] == "SUCCEEDED"
    addresses = [gangs.node(job_id, index)["container"]["networkInterfaces"][0] for index in (1, 0, 2)]
    named = [
        f"{address['privateIpv4Address']} slots={slots}" for address, slots in zip(addresses, (1, 2, 0), strict=True)
    ]
    assert gangs.output("uneven", "hosts").splitlines() == named
    assert gangs.output("uneven", "index") == "1\n"
    where = hosts(gangs.lines(job_id, 1))
    assert len(where) == 3
    assert len(set(where)) == 2
    assert [node["nodeDetails"]["isMainNode"] for node in (gangs.node(job_id, index) for index in range(3))] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("mpi", MPIS)
@pytest.mark.parametrize(
    ("what", "codes"),
    [
        ("sh -c 'exit 7'", {7}),
        ("poisson nowhere nothing", {2}),
        (
            "sh -c 'kill -SEGV $$'",
            {139, 11, 255},
        ),  # Open MPI's as a shell has it; Hydra's: the signal, or that several ended badly
    ],
    ids=["exit", "abort", "signal"],
)
def test_how_mpirun_ends_is_how_the_job_ends(gangs: Gangs, mpi: str, what: str, codes: set[int]) -> None:
    """MP6, MP7: nothing is published of a job that failed."""
    key = f"ends-{min(codes)}"
    job_id = gangs.put(
        mpi, key, f"echo half >{key}", f"mpirun {what} || code=$?", "echo mpirun ended with $code", "exit $code"
    )
    job = gangs.job(job_id)
    assert job["status"] == "FAILED"
    (attempt,) = job["attempts"]  # a script that failed is not tried again
    code = attempt["container"]["exitCode"]
    assert code in codes
    assert f"mpirun ended with {code}" in gangs.lines(job_id, 0)
    assert gangs.published(mpi, key) == 0


def test_only_the_main_node_publishes_and_each_file_once(gangs: Gangs) -> None:
    """MP7, MP11: workers stage nothing in. Nothing is left of where the nodes found each other."""
    name = images.OPEN_MPI
    # All end with 0: Open MPI ends the others, and what they still say, when one does not.
    look = "mpirun sh -c 'if test -e \"$INPUT_FILE_PATH\"; then echo $SCAR_NODE_INDEX has it; fi' | sort >once"
    job_id = gangs.put(name, "once", look)
    assert gangs.job(job_id)["status"] == "SUCCEEDED"
    assert gangs.published(name, "once") == 1
    assert gangs.output(name, "once") == "0 has it\n"
    assert [sum('"staged in"' in line for line in gangs.lines(job_id, index)) for index in range(3)] == [1, 0, 0]
    assert gangs.board(name, job_id) == []
