"""Nodes that die, come late or never, and strangers on the port: the job ends in bounded time, and says why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from faassupervisor import contract
from tests.e2e.mpi import images
from tests.e2e.mpi.gangs import STATE, Gangs

NAME = images.OPEN_MPI
HELLO = ("mpirun hello", "echo done >$KEY")


def reason(gangs: Gangs, job_id: str) -> contract.Failure:
    """The last word of the main node's agent."""
    failures = [line for line in gangs.lines(job_id, 0) if line.startswith('{"errorMessage"')]
    return contract.Failure.from_json(failures[-1])


def test_a_node_that_comes_late_is_waited_for(gangs: Gangs) -> None:
    """MP2"""
    with gangs.holding(NAME, 2) as late:
        job_id = gangs.put(NAME, "late", "KEY=late", *HELLO)
        late.until_held()
        gangs.says(job_id, 1, '"joined the gang"')
        assert not any("hello" in line for line in gangs.lines(job_id, 0))
        late.release()
        assert gangs.job(job_id)["status"] == "SUCCEEDED"
    assert sum("hello from rank" in line for line in gangs.lines(job_id, 0)) == 3


def test_a_node_that_never_comes_is_named_and_the_others_go_home(gangs: Gangs) -> None:
    """MP3"""
    with gangs.holding(NAME, 1) as missing:
        job_id = gangs.submit(NAME, 3, "never", "KEY=never", *HELLO, start_timeout_s=2)
        missing.until_held()
        gangs.says(job_id, 0, '"errorType":"GangFailed"')
        failure = reason(gangs, job_id)
        gangs.says(job_id, 2, '"node ended"')
    assert gangs.job(job_id)["status"] == "FAILED"
    assert re.search(r"\bnode 1\b.*\b3\b", failure.message)
    assert not any("hello" in line for line in gangs.lines(job_id, 0))
    assert gangs.published(NAME, "never") == 0


def test_a_node_that_dies_before_it_comes_is_missed(gangs: Gangs) -> None:
    """MP4: before the barrier. Batch tells the main node nothing, so it waits as long as it was told."""
    with gangs.holding(NAME, 2) as dying:
        job_id = gangs.submit(NAME, 3, "before", "KEY=before", *HELLO, start_timeout_s=2)
        dying.until_held()
        gangs.reclaim(job_id, 2)
        assert gangs.job(job_id)["status"] == "FAILED"
    assert "node 2" in reason(gangs, job_id).message
    assert gangs.published(NAME, "before") == 0


def test_a_node_that_dies_while_the_others_wait_ends_the_job_at_once(gangs: Gangs) -> None:
    """MP4: in the barrier."""
    with gangs.holding(NAME, 2) as late:
        job_id = gangs.put(NAME, "in", "KEY=in", *HELLO)
        late.until_held()
        gangs.says(job_id, 1, '"joined the gang"')
        died = time.monotonic()
        gangs.reclaim(job_id, 1)
        gangs.says(job_id, 0, '"errorType":"GangFailed"')
        assert time.monotonic() - died < 15  # of the 30 s that it would wait for node 2
    assert gangs.job(job_id)["status"] == "FAILED"
    assert "node 1" in reason(gangs, job_id).message
    assert gangs.published(NAME, "in") == 0


def test_a_node_that_dies_in_the_middle_of_mpirun_ends_it_everywhere(gangs: Gangs) -> None:
    """MP4: after the barrier. The failure names the node; what a script has written by then is not published."""
    script = ("echo half >after", "mpirun sh -c 'echo rank $OMPI_COMM_WORLD_RANK began; sleep 600'")
    job_id = gangs.put(NAME, "after", *script)
    gangs.says(job_id, 0, "rank 2 began")
    gangs.reclaim(job_id, 2)
    job = gangs.job(job_id, within_s=30)
    assert job["status"] == "FAILED"
    assert len(job["attempts"]) == 1
    failure = reason(gangs, job_id)
    assert (failure.kind, "node 2" in failure.message) == ("GangFailed", True)
    assert any("node 2" in line for line in gangs.lines(job_id, 1))  # the others are told
    assert gangs.published(NAME, "after") == 0
    assert gangs.node(job_id, 2)["statusReason"].startswith("Host EC2")


def test_a_lost_main_node_is_another_attempt_that_starts_clean(gangs: Gangs) -> None:
    """MP5, MP7, MP9: the nodes of the first attempt end; the second one's find each other and publish, once."""
    script = (
        "echo $SCAR_ATTEMPT $AWS_BATCH_JOB_ATTEMPT >lost",
        "test $AWS_BATCH_JOB_ATTEMPT = 2 || { echo waits; sleep 600; }",
        "mpirun hello",
    )
    job_id = gangs.put(NAME, "lost", *script)
    gangs.says(job_id, 0, "waits")
    gangs.reclaim(job_id, 0)
    job = gangs.job(job_id)
    assert job["status"] == "SUCCEEDED"
    first, second = job["attempts"]
    assert first["statusReason"].startswith("Host EC2")
    assert second["container"]["exitCode"] == 0
    assert gangs.output(NAME, "lost") == "2 2\n"
    assert gangs.published(NAME, "lost") == 1
    assert sum("hello from rank" in line for line in gangs.lines(job_id, 0)) == 3
    assert gangs.board(NAME, job_id) == []


KNOCK = """
import socket, sys
address = (sys.argv[1], int(sys.argv[2]))
for greeting in (b"", b"GET / HTTP/1.0\\r\\n\\r\\n", bytes(4096), b"SSH-2.0-OpenSSH_9.2\\r\\n"):
    with socket.create_connection(address, timeout=9) as stranger:
        stranger.settimeout(9)
        stranger.sendall(greeting)
        if greeting:
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionError:
                pass
print("refused")
"""


def test_strangers_on_the_port_are_refused_and_the_job_goes_on(gangs: Gangs) -> None:
    """MP10, MP11: from within the job's own network. What is on the board is public, and no key."""
    with gangs.holding(NAME, 2) as late:
        job_id = gangs.put(NAME, "stranger", "KEY=stranger", *HELLO)
        late.until_held()
        gangs.says(job_id, 1, '"joined the gang"')
        (entry,) = [key for key in gangs.board(NAME, job_id) if key.endswith("/1/0")]
        told = json.loads(gangs.s3.get_object(Bucket=STATE, Key=entry)["Body"].read())
        inside = [f"--net=/proc/{next(iter(late.processes))}/ns/net", sys.executable, "-I", "-c", KNOCK]
        knocked = subprocess.run(
            ["nsenter", *inside, told["address"], str(told["port"])],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert knocked.stdout == "refused\n", knocked.stderr
        late.release()
        assert gangs.job(job_id)["status"] == "SUCCEEDED"
    lines = gangs.lines(job_id, 0)
    assert any("refused" in line for line in lines)
    assert sum("hello from rank" in line for line in lines) == 3


def test_nothing_of_these_jobs_is_left_on_this_machine(gangs: Gangs) -> None:
    """After all of the above: no process of a node, in whatever state."""
    queues = {f"AWS_BATCH_JQ_NAME=scar-{name}".encode() for name in (*(images.OPEN_MPI, images.MPICH), "uneven")}
    left = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environ.read_bytes().split(b"\0")
        except OSError:
            continue
        if queues & set(variables) and f"SCAR_STATE=s3://{STATE}".encode() in b"\0".join(variables):
            left.append((environ.parent / "cmdline").read_bytes())
    assert left == []
