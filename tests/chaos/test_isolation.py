"""What a function or a job that means harm finds out about its neighbour, and what the neighbour notices: nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.small import deploy
from tests.e2e.conftest import Local, until

ENGINES = ("auto", "podman") if os.geteuid() == 0 else ("auto",)

# Holds its secrets in every place that a run has, until an object tells it to go on.
VICTIM = r"""#!/usr/bin/env python3
import os, pathlib, time, urllib.error, urllib.request
sesame, canary = pathlib.Path(os.environ["INPUT_FILE_PATH"]).read_text().splitlines()
pathlib.Path("/tmp/canary-in-tmp").write_text("CANARY of the folder")
print("the victim runs", flush=True)
while True:
    try:
        urllib.request.urlopen(sesame).read()
        break
    except urllib.error.HTTPError:
        time.sleep(0.1)
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], "kept").write_text(canary + " " + os.environ["CANARY"])
"""

HOSTILE = r"""#!/usr/bin/env python3
import json, os, pathlib, socket, sys

said = {}
order = json.loads(pathlib.Path(os.environ["INPUT_FILE_PATH"]).read_text())

def can(action):
    try:
        action()
        return True
    except OSError:
        return False

def read_all(pattern, root="/"):
    for path in pathlib.Path(root).glob(pattern):
        try:
            yield path.read_bytes()
        except OSError:
            continue

# its own environment and memory aside, is a secret of another anywhere?
own = {str(os.getpid()), str(os.getppid())}
found = [text for pattern in ("proc/[0-9]*/environ", "proc/[0-9]*/cmdline", "tmp/*", "tmp/*/*", "var/tmp/*", "dev/shm/*")
         for text in read_all(pattern) if b"CANARY" in text]
said["canaries"] = len(found)
said["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
said["files of this machine"] = [path for path in order["paths"] if os.path.lexists(path)]
said["sockets of engines"] = [path for path in ("/run/podman/podman.sock", "/var/run/docker.sock", "/run/docker.sock",
                              "/run/containerd/containerd.sock", "/run/user/0/podman/podman.sock") if os.path.lexists(path)]
said["signalled"] = [pid for pid in order["pids"] if can(lambda: os.kill(pid, 0))]

# wherever the local AWS listens on this machine's loopback: does it take us for the runtime of somebody's sandbox?
mine = os.environ.get("AWS_LAMBDA_RUNTIME_API", "").rpartition(":")[2]
answered = []
for port in set(order["ports"]) - {int(mine or 0)}:
    for request in ("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n",
                    "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nstolen" % order["request"],
                    "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"):
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as connection:
                connection.settimeout(1)
                connection.sendall(request.encode())
                answer = connection.recv(4096)
        except OSError:
            continue
        if b"Lambda-Runtime" in answer or answer.startswith(b"HTTP/1.1 202"):
            answered.append([port, answer.decode(errors="replace")[:200]])
said["runtime APIs that listened"] = answered
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], "report.json").write_text(json.dumps(said))
"""


def definition(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "memory": 256,
        "timeout": 120,
        "init_script": f"{name.partition('-')[0]}.py",
        "container": {"image": "scratch"},
        "input": [{"path": f"bucket-{name}/in"}],
        "output": [{"path": f"bucket-{name}/out"}],
        **more,
    }


@pytest.fixture(params=ENGINES)
def neighbours(request: pytest.FixtureRequest, own_local: Local) -> Local:
    """A victim in the middle of its run."""
    own_local.engine = request.param
    (own_local.folder / "victim.py").write_text(VICTIM)
    (own_local.folder / "hostile.py").write_text(HOSTILE)
    told = {"image": "scratch", "environment": {"Variables": {"CANARY": "CANARY of the environment"}}}
    job = {"vcpus": 1, "memory": 256, "compute_resources": {"min_v_cpus": 0, "max_v_cpus": 2}}
    deploy(
        own_local,
        {"lambda": definition("victim", container=told)},
        {"lambda": definition("hostile")},
        {"lambda": definition("hostile-job", execution_mode="batch"), "batch": job},
    )
    s3 = own_local.client("s3")
    sesame = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket-victim", "Key": "go"})
    s3.put_object(Bucket="bucket-victim", Key="in/private", Body=f"{sesame}\nCANARY of the input".encode())
    return own_local


def lines(local: Local, name: str) -> list[str]:
    logs = local.client("logs")
    try:
        return [event["message"] for event in logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []


def listening(pid: int) -> list[int]:
    """The ports of this machine's loopback on which a process listens, as anybody in the same network reads them in /proc."""
    sockets = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


def test_a_neighbour_finds_nothing_and_is_not_taken_for_the_runtime(neighbours: Local, tmp_path: Path) -> None:
    """LO10: a function, and a job."""
    until("the victim", lambda: "the victim runs" in lines(neighbours, "victim"), 60)
    secret = tmp_path / "of this machine"
    secret.write_text("CANARY of this machine")
    secret.chmod(0o644)
    daemon = neighbours.daemon_pid()
    (started,) = [line for line in lines(neighbours, "victim") if line.startswith("START RequestId:")]
    order = {
        "paths": [str(path) for path in (secret, neighbours.state, neighbours.folder, Path(__file__))],
        "pids": [daemon, os.getpid()],
        "ports": listening(daemon),
        "request": started.split()[2],
    }
    assert len(order["ports"]) >= 2  # the local AWS's own, and the victim's Runtime API
    s3 = neighbours.client("s3")
    for hostile in ("hostile", "hostile-job"):
        s3.put_object(Bucket=f"bucket-{hostile}", Key="in/order.json", Body=json.dumps(order).encode())
        until("the report", lambda name=hostile: neighbours.keys(f"bucket-{name}", "out/"), 120)
        said = json.loads(s3.get_object(Bucket=f"bucket-{hostile}", Key="out/report.json")["Body"].read())
        assert said.pop("processes") <= 8
        assert said == {
            "canaries": 0,
            "files of this machine": [],
            "sockets of engines": [],
            "signalled": [],
            "runtime APIs that listened": [],
        }, hostile
    s3.put_object(Bucket="bucket-victim", Key="go", Body=b"")
    until("the victim's own output", lambda: neighbours.keys("bucket-victim", "out/"), 60)
    kept = s3.get_object(Bucket="bucket-victim", Key="out/kept")["Body"].read()
    assert kept == b"CANARY of the input CANARY of the environment"
    assert sum(line.startswith("START RequestId:") for line in lines(neighbours, "victim")) == 1
