"""What a gang does with a run: who runs what, what comes back, and how it ends. Every node is a real agent."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from faassupervisor.contract import Gang
from faassupervisor.workspace import Workspace
from tests.supervisor.faults import FaultyS3, Request
from tests.supervisor.gang_lab import ended, gangs, handing, left_by
from tests.support.faults import Fault, Refuse

__all__ = ["gangs", "handing"]

SHELL = '"$HYDRA_LAUNCHER_EXEC"'


def test_the_script_runs_on_the_main_node_with_the_others_at_hand_and_publishes_once(gangs):
    """T1-20, MP1, MP7, MP13 (main index not 0), MP14 (a node with no slots), T1-21: no keys are made."""
    function = gangs.function(f"""
        cat "$SCAR_HOSTFILE"; echo $SCAR_NUM_NODES $SCAR_NODE_INDEX $SCAR_MAIN_HOST $INSTANCE_IP
        {SHELL} 0 'echo on $SCAR_NODE_INDEX of $SCAR_NUM_NODES, main $SCAR_MAIN_HOST, $SCAR_ATTEMPT ${{INPUT_FILE_PATH-no input}} ${{SCAR_GANG-}}'
        child=$({SHELL} 2 'setsid sleep 30 >/dev/null 2>&1 & echo $!')
        {SHELL} 2 "kill -0 $child" && echo it lives on
        tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/x"
    """)
    with FaultyS3(gangs.handing.lab.endpoint) as s3:
        gang = [Gang(slots=2, start_timeout_s=20), Gang(slots=1, start_timeout_s=20), Gang(slots=0, start_timeout_s=20)]
        nodes = gangs.start(function, 3, main=1, gang=gang, AWS_ENDPOINT_URL_S3=s3.endpoint)
        assert ended(nodes) == {0: 0, 1: 0, 2: 0}
        puts = [request.path for request in s3.requests if request.method == "PUT" and "/out/" in request.path]
        reads = [request.path for request in s3.requests if request.method == "GET" and "/in/a" in request.path]
    assert (
        nodes[1].written()
        == [
            *[f"{gangs.address(index)} slots={slots}" for index, slots in ((1, 1), (0, 2), (2, 0))],
            f"3 1 {gangs.address(1)} {gangs.address(1)}",
            f"on 0 of 3, main {gangs.address(1)}, 1 no input",
            "it lives on",
            "",
        ][:6]
    )
    assert nodes[0].written() == [f"on 0 of 3, main {gangs.address(1)}, 1 no input"]
    assert (len(puts), len(reads)) == (1, 1) and gangs.handing.bucket.get("out/x") == b"HELLO"
    assert gangs.handing.bucket.keys("functions/f/gangs/") == [] and left_by(nodes) == []
    again = gangs.start(function, 2, attempt=2)  # the record is done: the gang goes home
    assert ended(again) == {0: 0, 1: 0}
    assert "nothing to do" in again[0].log and "the job has succeeded" in again[1].log and again[0].written() == []


def test_scripts_that_tell_the_nodes_apart_run_on_all_with_the_input_and_only_main_publishes(gangs):
    """MP7; the example of SCAR 4, whose workers never end by themselves."""
    function = gangs.function("""
        cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/of-$AWS_BATCH_JOB_NODE_INDEX"
        echo "node $AWS_BATCH_JOB_NODE_INDEX in $(basename "$(dirname "$TMP_INPUT_DIR")")"
        [ $SCAR_NODE_INDEX = 0 ] || exec sleep 30
        sleep 0.3
    """)
    gang = Gang(start_timeout_s=20, input_on_workers=True, script_on_workers=True)
    nodes = gangs.start(function, 2, gang=gang)
    assert ended(nodes) == {0: 0, 1: 0}
    (main,), (worker,) = nodes[0].written(), nodes[1].written()
    assert main.startswith("node 0 in scar-run-") and worker == main.replace("node 0", "node 1")
    assert gangs.handing.outputs() == ["out/of-0"] and left_by(nodes) == []


def test_a_node_that_is_killed_ends_the_job_everywhere_and_the_next_attempt_starts_clean(gangs):
    """MP4 (in the run), MP9. What the node wrote last is told."""
    function = gangs.function(f"""
        echo x > "$TMP_OUTPUT_DIR/x-$SCAR_ATTEMPT"
        [ $SCAR_ATTEMPT = 2 ] || {SHELL} 2 'echo "last words"; echo ready; exec sleep 30'
    """)
    nodes = gangs.start(function, 3)
    nodes[0].says("ready")
    killed = time.monotonic()
    os.kill(nodes[2].process.pid, signal.SIGKILL)
    codes = ended(nodes, 10)
    assert codes[0] != 0 and (codes[1], codes[2]) == (0, -9) and time.monotonic() - killed < 8
    summary = nodes[0].log.splitlines()[-1]
    assert f"node 2 ({gangs.address(2)}) is lost: it closed its connection" in summary
    assert '"errorType":"GangFailed"' in summary and "last words" in summary
    assert f"node 2 ({gangs.address(2)})" in nodes[1].facts("the gang has failed; this node ends")[0]["message"]
    assert gangs.handing.outputs() == [] and gangs.handing.entry()["state"] == "failed"
    again = gangs.start(function, 2, attempt=2)
    assert ended(again) == {0: 0, 1: 0}
    assert gangs.handing.outputs() == ["out/x-2"] and left_by({0: nodes[0], 1: nodes[1], **again}) == []


def test_nodes_that_never_come_are_named_and_the_others_end(gangs):
    """MP3, MP4 (before the barrier)."""
    function = gangs.function('echo x > "$TMP_OUTPUT_DIR/x"')
    nodes = gangs.start(function, 4, gang=Gang(start_timeout_s=1), only=(0, 1))
    codes = ended(nodes, 10)
    assert codes[0] == 1 and "nodes 2 and 3 of 4 did not come within 1 s" in nodes[0].log.splitlines()[-1]
    assert nodes[1].log.count("nodes 2 and 3 of 4") == 1 and codes[1] == 0
    assert gangs.handing.outputs() == [] and "x" not in nodes[0].written() and left_by(nodes) == []


def test_workers_end_by_themselves_when_the_main_node_is_killed(gangs):
    """MP5."""
    function = gangs.function(f"{SHELL} 1 'echo ready; setsid sleep 30 >/dev/null 2>&1 & exec sleep 30'")
    nodes = gangs.start(function, 2)
    nodes[1].says("ready")
    os.killpg(nodes[0].process.pid, signal.SIGKILL)
    assert nodes[1].end(10) == 1
    (fact,) = nodes[1].facts("this node ends")
    assert "the main node (node 0) is gone: it closed its connection" in fact["message"]
    assert left_by({1: nodes[1]}) == [] and gangs.handing.outputs() == []


def test_a_script_that_fails_on_a_worker_fails_the_job_with_its_code(gangs):
    function = gangs.function("""
        [ $SCAR_NODE_INDEX = 0 ] && exec sleep 30
        echo "no licence" >&2; exit 7
    """)
    nodes = gangs.start(function, 2, gang=Gang(start_timeout_s=20, script_on_workers=True))
    assert ended(nodes, 10) == {0: 7, 1: 7}
    summary = nodes[0].log.splitlines()[-1]
    assert "failed: its script exited with code 7" in summary and "no licence" in summary
    assert gangs.handing.entry()["exit_code"] == 7 and left_by(nodes) == []


def test_a_worker_that_cannot_have_the_input_fails_the_job_before_the_script_starts(gangs):
    """MP7: the main node has it by then."""
    function = gangs.function('echo x > "$TMP_OUTPUT_DIR/x"; echo started')
    got = iter((None,))

    def refuse_the_second(request: Request) -> Fault | None:
        wanted = request.method == "GET" and "/in/a" in request.path
        return next(got, Refuse(403, "AccessDenied")) if wanted else None

    with FaultyS3(gangs.handing.lab.endpoint, refuse_the_second) as s3:
        gang = Gang(start_timeout_s=20, input_on_workers=True)
        nodes = gangs.start(function, 2, gang=gang, AWS_ENDPOINT_URL_S3=s3.endpoint)
        assert ended(nodes, 10) == {0: 1, 1: 1}
    summary = nodes[0].log.splitlines()[-1]
    assert f"node 1 ({gangs.address(1)}) failed: " in summary and "in/a" in summary and "GangFailed" in summary
    assert nodes[0].written() == [] and gangs.handing.outputs() == [] and left_by(nodes) == []


@pytest.mark.parametrize("told", [0, 1])
def test_a_node_that_is_told_to_stop_ends_the_job_with_143(gangs, told):
    function = gangs.function(f"echo x > $TMP_OUTPUT_DIR/x; {SHELL} 1 'echo ready; exec sleep 30'")
    nodes = gangs.start(function, 2)
    nodes[0].says("ready")
    nodes[told].process.terminate()
    assert ended(nodes, 10) == {0: 143, 1: 143 if told == 1 else 0}
    assert "SIGTERM" in nodes[0].log.splitlines()[-1]
    assert gangs.handing.outputs() == [] and left_by(nodes) == []


@pytest.mark.parametrize(
    "name", ["scar-root-0123456789abcdef", "scar-run-../../../../etc", "scar-run-0123456789abcdef/in", ""]
)
def test_a_place_that_is_no_workspace_is_not_made_for_anybody(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a workspace"):
        Workspace(tmp_path, name)
