"""What a job's container shows of the machine below /sys: the devices of its own network, to read and not to change."""

from __future__ import annotations

import contextlib
import socket

import pytest
from sandbox_trials import AS_ROOT, ENGINES, Runner

ASK = "ls /sys/class/net; cat /sys/devices/system/cpu/online >/dev/null && echo cpus; ls /sys/firmware; (: >/sys/kernel/x) 2>/dev/null || echo kept"
KERNELS = [name for name in ENGINES if name in {"root", "user"}]


@pytest.mark.parametrize("runner", KERNELS, indirect=True)
def test_nodes_of_a_job_see_their_own_network_devices(runner: Runner) -> None:
    network = runner.engine.network(("one",), endpoint="http://127.0.0.1:1", serve=lambda _: contextlib.nullcontext())
    try:
        code, said = runner.run(ASK, read_only=False, place=network.places[0])
    finally:
        network.close()
    assert (code, said.split()) == (0, ["eth0", "lo", "cpus", "kept"])


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user may not make a view of this machine's own network")
@pytest.mark.parametrize("runner", ["root"], indirect=True)
def test_jobs_on_this_machines_network_see_its_devices(runner: Runner) -> None:
    code, said = runner.run(ASK, read_only=False)
    devices = {name for _, name in socket.if_nameindex()}
    assert (code, set(said.split())) == (0, {*devices, "cpus", "kept"})


@pytest.mark.parametrize("runner", KERNELS, indirect=True)
def test_functions_have_no_devices_to_look_at(runner: Runner) -> None:
    code, said = runner.run("ls /sys 2>/dev/null; echo end", read_only=True)
    assert (code, said.split()) == (0, ["end"])
