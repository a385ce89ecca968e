"""Functions of several nodes with real MPIs, deployed once; tests name their files apart."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Local
from tests.e2e.mpi import images
from tests.e2e.mpi.gangs import Gangs, function

THREE = {"number_nodes": 3, "start_timeout": 30}
MPIS = (images.OPEN_MPI, images.MPICH)
UNEVEN = {
    "number_nodes": 3,
    "main_node_index": 1,
    "node_ranges": [{"nodes": "0", "slots": 2}, {"nodes": "2", "slots": 0}],
}


@pytest.fixture(scope="session")
def gangs(shared_local: Local) -> Gangs:
    """`openmpi` and `mpich` have three nodes of one slot; `uneven`, with its main node in the middle, has 2, 1 and 0."""
    images.prepare(*MPIS)
    shared_local.must("local", "up")
    made = Gangs(shared_local)
    made.deploy(
        "gangs.yaml",
        *(function(mpi, images.stored(mpi), THREE, attempts=2) for mpi in MPIS),
        function("uneven", images.stored(images.OPEN_MPI), UNEVEN),
    )
    return made
