"""The same gang in containers of Podman, and where no engine gives its nodes a network: proot, on loopback addresses."""

from __future__ import annotations

import shutil

import pytest

from tests.e2e.conftest import Local
from tests.e2e.mpi import images
from tests.e2e.mpi.conftest import THREE
from tests.e2e.mpi.gangs import Gangs, function, hosts


@pytest.mark.parametrize("engine", ["podman", "proot"])
def test_the_solver_is_right_in_it(own_local: Local, engine: str) -> None:
    """T1-21, MP1: three ranks on three addresses. A network of its own gives each node a name of its own too."""
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed; the gate installs it")
    own_local.engine = engine
    gangs, mpi = Gangs(own_local), images.OPEN_MPI
    own_local.must("local", "up")
    gangs.deploy("gangs.yaml", function(mpi, images.stored(mpi), THREE))
    job_id = gangs.put(mpi, "solve", "echo grid = 12 >p", "mpirun poisson p result", "rm p", "cp $SCAR_HOSTFILE hosts")
    job = gangs.job(job_id, within_s=120)
    assert job["status"] == "SUCCEEDED", gangs.lines(job_id, 0)
    where = hosts(gangs.output(mpi, "result").splitlines())
    assert len(where) == 3
    addresses = [line.split()[0] for line in gangs.output(mpi, "hosts").splitlines()]
    assert len(set(addresses)) == 3
    if engine == "proot":
        assert all(address.startswith("127.") for address in addresses)
    else:
        assert len(set(where)) == 3
