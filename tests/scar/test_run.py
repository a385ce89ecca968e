"""`scar run`: what is sent, who runs it, and whose exit code it ends with."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from faassupervisor.contract import Failure, Reference, Reply, Run
from scar.commands.run import exit_code_of
from scar.limits import MIB
from tests.support.runs_edge import STATE_BUCKET, Scar, World


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ('{"errorType": "ScriptFailed", "errorMessage": "script exited with code 3", "exit_code": 3}', 3),
        ('{"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: x Error: Task timed out after 3.00 seconds"}', 124),
        ('{"errorType": "Runtime.ExitError", "errorMessage": "RequestId: x Error: Runtime exited with error: signal: killed"}', 137),
        ('{"errorType": "Runtime.ExitError", "errorMessage": "RequestId: x Error: Runtime exited with error: exit status 1"}', 1),
        ('{"errorMessage": "2026-01-01T00:00:00.000Z x Task timed out after 3.00 seconds"}', 124),
        ('{"errorMessage": "something older"}', 1),
    ],
)  # fmt: skip
def test_a_failure_means_one_exit_code(document: str, code: int) -> None:
    assert exit_code_of(Failure.from_json(document)) == code


def reply(*runs: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Reply("r", runs).to_json())
    return found


@pytest.mark.parametrize(("flag", "limit"), [((), 6 * MIB), (("-a",), MIB)])
def test_what_is_too_large_for_the_invocation_goes_through_the_state_bucket(
    world: World, scar: Scar, tmp_path: Path, flag: tuple[str, ...], limit: int
) -> None:
    """A script of 5 MB has 6.7 MB as it is sent."""
    name = world.function(f"r1{len(flag)}")
    world.state_bucket()
    script = tmp_path / "script.sh"
    script.write_bytes(b"#!/bin/sh\n" + b"#" * (5_000_000 if not flag else 800_000))
    assert scar("run", "-n", name, "-s", str(script), *flag).code == 0
    [sent] = world.invoked
    assert len(sent) < 500
    reference = Reference.of_payload(json.loads(sent))
    assert reference is not None
    assert reference.size > limit
    key = f"functions/{name}/spill/{reference.sha256}"
    assert reference.uri == f"s3://{STATE_BUCKET}/{key}"
    kept = world.mine.s3.get_object(Bucket=STATE_BUCKET, Key=key)["Body"].read()
    assert hashlib.sha256(kept).hexdigest() == reference.sha256
    assert base64.b64decode(json.loads(kept)["script"]) == script.read_bytes()


def test_the_largest_event_that_fits_is_sent_as_it_is_and_one_byte_more_is_not(
    world: World, scar: Scar, tmp_path: Path
) -> None:
    name = world.function("r2", state=False)
    event = tmp_path / "event.json"
    event.write_bytes(b'"' + b"x" * (6 * MIB - 2) + b'"')
    assert scar("run", "-n", name, "-e", str(event)).code == 0
    assert len(world.invoked[0]) == 6 * MIB
    event.write_bytes(b'"' + b"x" * (6 * MIB - 1) + b'"')
    older = scar("run", "-n", name, "-e", str(event))  # deployed without a place in the state bucket
    assert older.code == 5
    assert "scar init" in older.err
    assert len(world.invoked) == 1


@pytest.mark.parametrize("said", ["flag", "definition"])
def test_what_may_not_be_spilled_is_refused_before_any_call(
    world: World, scar: Scar, tmp_path: Path, said: str
) -> None:
    script = tmp_path / "script.sh"
    script.write_bytes(b"#" * 5_000_000)
    if said == "flag":
        done = scar("run", "-n", world.function("r3"), "-s", str(script), "--no-spill")
    else:
        definition = tmp_path / "it.yaml"
        definition.write_text(
            "functions:\n  aws:\n  - lambda:\n      name: r3\n      spill: false\n      container:\n        image: registry.example/it\n"
        )
        done = scar("run", "-f", str(definition), "-s", str(script))
    assert done.code == 5
    assert "6291456" in done.err
    assert ("--no-spill" if said == "flag" else "lambda.spill") in done.err
    assert "6666" in done.err
    assert not world.calls


def test_a_run_that_batch_took_over_says_which_job_and_how_to_follow_it(world: World, scar: Scar) -> None:
    one = world.job("r4")
    world.respond = lambda payload, asynchronous: (reply(Run("in/a", 0, job_id=one)), None)
    name = world.function("r4", queue="scar-r4")
    done = scar("run", "-n", name)
    assert (done.code, done.out) == (0, f"handed over to Batch: job {one}\n")
    assert f"scar wait {one}" in done.err
    assert f"scar log -n r4 -ri {one}" in done.err
    assert scar("run", "-n", name, "-o", "json").json["runs"][0]["job_id"] == one


def test_waiting_for_the_run_shows_what_the_job_writes_and_ends_with_its_code(
    world: World, scar: Scar, tmp_path: Path
) -> None:
    one = world.job(
        "r5", "FAILED", exit_code=7, streams=["r5/default/1"], statusReason="Essential container in task exited"
    )
    facts = [f'{{"request_id": "r", "fact": "{fact}"}}' for fact in ("job started", "job ended")]
    world.log(
        "/aws/batch/job/r5",
        "r5/default/1",
        facts[0],
        "working",
        '{"mine": 1}',
        facts[1],
        '{"request_id": "r", "runs": [], "schema": 1, "errorMessage": "it failed because"}',
    )
    world.respond = lambda payload, asynchronous: (
        reply(Run("in/b", 0, output="in lambda\n"), Run("in/a", 0, output="begun\n", job_id=one)),
        None,
    )
    name = world.function("r5", queue="scar-r5")
    done = scar("run", "-n", name, "--wait")
    assert (done.code, done.out) == (7, 'in lambda\nworking\n{"mine": 1}\n')
    assert f"Batch job {one}: FAILED, exit code 7: Essential container in task exited" in done.err
    assert "scar: it failed because" in done.err
    done = scar("run", "-n", name, "--wait", "-o", "json")
    assert (done.code, done.json["exit_code"], done.json["jobs"][0]["id"]) == (7, 7, one)
    assert scar("run", "-n", name, "--wait", "-o", str(tmp_path / "out")).code == 7
    assert (tmp_path / "out").read_text() == 'in lambda\nworking\n{"mine": 1}\n'


def test_an_asynchronous_run_is_waited_for_through_its_log(world: World, scar: Scar) -> None:
    name = world.function("r6")
    request = "00000000-0000-4000-8000-000000000001"

    def respond(payload: bytes, asynchronous: bool) -> tuple[dict[str, Any], str | None]:
        failed = [
            f'{{"request_id": "{request}", "fact": "{fact}", "exit_code": 4}}'
            for fact in ("script ended", "a record failed")
        ]
        world.log(
            "/aws/lambda/r6",
            "s",
            f"START RequestId: {request} Version: 1",
            "said",
            *failed,
            f"REPORT RequestId: {request}\tDuration: 1 ms",
        )
        return {}, None

    world.respond = respond
    done = scar("run", "-n", name, "-a", "--wait", "-o", "json")
    assert (done.code, done.json) == (
        4,
        {"function": "r6", "request_id": request, "jobs": [], "exit_code": 4, "exit_origin": "job"},
    )
    assert "said" in done.err


@pytest.mark.parametrize("kind", ["Sandbox.Timedout", "Runtime.ExitError"])
def test_a_run_that_lambda_killed_is_handed_over_by_us(world: World, scar: Scar, kind: str) -> None:
    """Only asynchronous invocations have destinations: the record is what Lambda would send to one."""
    one = world.job("r7")
    killed = {"errorType": kind, "errorMessage": f"RequestId: x Error: {kind}"}

    def respond(payload: bytes, asynchronous: bool) -> tuple[dict[str, Any], str | None]:
        return (reply(Run(None, 0, job_id=one)), None) if b"requestPayload" in payload else (killed, "Unhandled")

    world.respond = respond
    done = scar("run", "-n", world.function("r7", queue="scar-r7"), "echo", "é")
    assert (done.code, done.out) == (0, f"handed over to Batch: job {one}\n")
    first, record = world.invoked
    sent = json.loads(record)
    assert sent["requestPayload"] == json.loads(first)
    assert sent["responsePayload"] == killed
    assert sent["requestContext"] == {
        "requestId": "00000000-0000-4000-8000-000000000001",
        "functionArn": "arn:aws:lambda:eu-west-1:123456789012:function:r7:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 1,
    }


def test_why_nothing_ran_is_said(world: World, scar: Scar) -> None:
    skipped = json.loads(Reply("r", (), ("'in/a' was processed already",)).to_json())
    world.respond = lambda payload, asynchronous: (skipped, None)
    assert "r11: 'in/a' was processed already" in scar("run", "-n", world.function("r11")).err


def test_a_killed_run_of_a_function_without_a_queue_is_a_failure(world: World, scar: Scar) -> None:
    world.respond = lambda payload, asynchronous: (
        {"errorType": "Sandbox.Timedout", "errorMessage": "out"},
        "Unhandled",
    )
    assert scar("run", "-n", world.function("r8")).code == 124
    assert len(world.invoked) == 1


def test_a_killed_run_whose_record_would_not_fit_is_handed_over_by_reference(
    world: World, scar: Scar, tmp_path: Path
) -> None:
    world.state_bucket()
    event = tmp_path / "event.json"
    event.write_bytes(b'{"x": "' + b"x" * (6 * MIB - 100) + b'"}')
    killed = {"errorType": "Sandbox.Timedout", "errorMessage": "out"}
    world.respond = lambda payload, _: (reply(), None) if b"requestPayload" in payload[:4000] else (killed, "Unhandled")
    assert scar("run", "-n", world.function("r9", queue="scar-r9"), "-e", str(event)).code == 0
    reference = Reference.of_payload(json.loads(world.invoked[1])["requestPayload"])
    assert reference is not None
    assert reference.sha256 == hashlib.sha256(event.read_bytes()).hexdigest()


def test_a_failed_hand_over_ends_with_its_own_reason(world: World, scar: Scar) -> None:
    """TM13."""
    killed = {"errorType": "Sandbox.Timedout", "errorMessage": "out"}
    failed = {"errorType": "HandOverFailed", "errorMessage": "job queue scar-r10 is disabled", "exit_code": 1}
    world.respond = lambda payload, _: (failed if b"requestPayload" in payload else killed, "Unhandled")
    done = scar("run", "-n", world.function("r10", queue="scar-r10"))
    assert done.code == 1
    assert "job queue scar-r10 is disabled" in done.err
