"""A job on several machines, by whoever runs the tests: a plain program finds the other nodes in the host file, with no MPI at all."""

from __future__ import annotations

import json

from tests.e2e.batch.world import ENDED, function
from tests.e2e.conftest import Local, until

SUM = """#!/usr/bin/env python3
import os, pathlib, socket, time

addresses = [line.split()[0] for line in pathlib.Path(os.environ["SCAR_HOSTFILE"]).read_text().splitlines()]
me = os.environ["INSTANCE_IP"]
if me != os.environ["SCAR_MAIN_HOST"]:
    with socket.create_server((me, 7077)) as server:
        server.settimeout(30)
        server.accept()[0].sendall(os.environ["SCAR_NODE_INDEX"].encode())
    raise SystemExit

def asked(address):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with socket.create_connection((address, 7077), timeout=30) as other:
                return int(other.recv(9))
        except ConnectionRefusedError:
            time.sleep(0.05)

told = {address: asked(address) for address in addresses if address != me}
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], "sum").write_text(f"{sum(told.values())} from {len(set(told))}")
"""


def test_a_plain_program_finds_the_other_nodes(local: Local) -> None:
    """T1-20: three containers at once, each with an address of its own; `scar jobs` and `scar log` tell them apart."""
    (local.folder / "sum.py").write_text(SUM)
    nodes = {"enabled": True, "number_nodes": 3, "script_on_workers": True}
    batch = {"multi_node_parallel": nodes, "compute_resources": {"max_v_cpus": 3}}
    body = function("gang", "batch", batch=batch, init_script="sum.py")
    (local.folder / "gang.yaml").write_text(json.dumps({"functions": {"aws": [body]}}))
    local.must("init", "-f", "gang.yaml")
    local.client("s3").put_object(Bucket="bucket-gang", Key="in/x", Body=b"")
    until("the job", lambda: local.must("jobs", "-n", "gang", "-o", "json").json)
    (job,) = local.must("jobs", "-n", "gang", "-o", "json").json
    local.must("wait", job["id"])
    until("the workers' ends", lambda: all(node["status"] in ENDED for node in told(local, job["id"])["nodes"]))
    nodes_told = told(local, job["id"])["nodes"]
    assert [(node["node"], node["status"]) for node in nodes_told] == [
        (0, "SUCCEEDED"),
        (1, "SUCCEEDED"),
        (2, "SUCCEEDED"),
    ]
    assert local.client("s3").get_object(Bucket="bucket-gang", Key="out/sum")["Body"].read() == b"3 from 2"
    assert '"node": 2' in local.must("log", job["id"], "--node", "2").out
    assert '"node": 2' not in local.must("log", job["id"]).out


def told(local: Local, job_id: str) -> dict[str, list[dict[str, object]]]:
    answer: dict[str, list[dict[str, object]]] = local.must("jobs", job_id, "-o", "json").json
    return answer
