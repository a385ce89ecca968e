"""`scar run` for objects that are there already: an event of its own for each, each exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from faassupervisor.contract import Reply, Run
from tests.support.runs_edge import REGION, Scar, World

ROOT = Path(__file__).parents[2]
HOSTILE = ["in/a b+c.txt", "in/é%20.txt", 'in/"q$(x)\\n', "in/tab\tand%0Aline", "in/sub/deep"]


@pytest.fixture
def bucket(world: World, request: pytest.FixtureRequest) -> str:
    name = f"r-{abs(hash(request.node.nodeid)):x}"
    world.mine.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


def put(world: World, bucket: str, *keys: str) -> None:
    for key in keys:
        world.mine.s3.put_object(Bucket=bucket, Key=key, Body=key.encode())


def records(world: World) -> list[dict[str, Any]]:
    sent = [json.loads(payload)["Records"] for payload in world.invoked]
    assert all(len(one) == 1 for one in sent)
    return [one[0] for one in sent]


def keys(world: World) -> list[str]:
    return sorted(unquote_plus(record["s3"]["object"]["key"]) for record in records(world))


def test_each_object_of_a_folder_arrives_once_with_its_own_event(world: World, scar: Scar, bucket: str) -> None:
    """T1-24; the predecessor sent the last object N times."""
    put(world, bucket, *HOSTILE, "in/", "in", "input2/not", "other")
    world.respond = lambda payload, _: (json.loads(Reply("r", (Run("k", 0, output="said\n"),)).to_json()), None)
    done = scar("run", "-n", world.function("o1"), "-ib", f"{bucket}/in", "-o", "json")
    assert done.code == 0
    assert keys(world) == sorted([*HOSTILE, "in"])
    for record in records(world):
        key = unquote_plus(record["s3"]["object"]["key"])
        head = world.mine.s3.head_object(Bucket=bucket, Key=key)
        assert record["s3"]["object"]["size"] == head["ContentLength"] == len(key.encode())
        assert f'"{record["s3"]["object"]["eTag"]}"' == head["ETag"]
        assert (record["eventSource"], record["eventName"]) == ("aws:s3", "ObjectCreated:Put")
        assert "sequencer" not in record["s3"]["object"]
        assert " " not in record["s3"]["object"]["key"]
    assert [run["output"] for run in done.json["runs"]] == ["said\n"] * 6
    assert len({run["request_id"] for run in done.json["runs"]}) == 6


def test_the_first_failure_of_the_list_is_the_exit_code(world: World, scar: Scar, bucket: str) -> None:
    put(world, bucket, "in/a", "in/b", "in/c")

    def respond(payload: bytes, _: bool) -> tuple[dict[str, Any], str | None]:
        key = json.loads(payload)["Records"][0]["s3"]["object"]["key"]
        code = {"in/a": 0, "in/b": 5, "in/c": 7}[key]
        time.sleep(0.05 if code == 5 else 0)
        failed = {"errorType": "ScriptFailed", "errorMessage": f"code {code}", "exit_code": code, "stackTrace": ["no!"]}
        return (failed, "Unhandled") if code else (json.loads(Reply("r").to_json()), None)

    world.respond = respond
    done = scar("run", "-n", world.function("o2"), "-ib", f"s3://{bucket}/in/")
    assert done.code == 5
    assert "3 runs, 2 failed" in done.err
    assert "| no!" in done.err
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == [f"s3://{bucket}/in/{one}" for one in "abc"]


def test_runs_are_as_many_at_a_time_as_was_asked_for(world: World, scar: Scar, bucket: str) -> None:
    put(world, bucket, *[f"in/{n}" for n in range(9)])
    running, most, lock = 0, 0, threading.Lock()

    def respond(payload: bytes, _: bool) -> tuple[dict[str, Any], str | None]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.03)
        with lock:
            running -= 1
        return json.loads(Reply("r").to_json()), None

    world.respond = respond
    assert scar("run", "-n", world.function("o3"), "-ib", bucket, "--jobs", "3").code == 0
    assert most == 3
    assert len(world.invoked) == 9


def test_objects_named_one_by_one_run_once_each(world: World, scar: Scar, bucket: str) -> None:
    put(world, bucket, "in/a", "in/ab", "b")
    uris = [f"s3://{bucket}/in/a", f"s3://{bucket}/b", f"s3://{bucket}/in/a"]
    name = world.function("o4")
    assert scar("run", "-n", name, *[word for uri in uris for word in ("--object", uri)], "-a").code == 0
    assert keys(world) == ["b", "in/a"]
    assert scar("run", "-n", name, "--object", f"s3://{bucket}/absent").code == 3
    assert scar("run", "-n", name, "--object", "s3://only-a-bucket").code == 2
    assert scar("run", "-n", name, "-ib", f"{bucket}/nothing").code == 3


def test_nothing_is_run_for_a_rehearsal(world: World, scar: Scar, bucket: str) -> None:
    put(world, bucket, "in/a", "in/b")
    done = scar("run", "-n", world.function("o5"), "-ib", f"{bucket}/in", "--dry-run")
    assert done.out.splitlines() == [f"would run o5 for s3://{bucket}/in/{one}" for one in "ab"]
    assert not world.invoked


def test_the_definitions_own_inputs_are_run_for_when_asked(
    world: World, scar: Scar, bucket: str, tmp_path: Path
) -> None:
    """CL13: without a terminal nothing is asked, and the objects are left alone unless told."""
    put(world, bucket, "in/a", "in/b")
    text = "functions:\n  aws:\n"
    for name, folder in ((world.function("o6"), "in"), ("other", "aside")):
        text += f"  - lambda:\n      name: {name}\n      container:\n        image: registry.example/it\n"
        text += f"      input:\n      - storage_provider: s3\n        path: {bucket}/{folder}\n"
    (tmp_path / "it.yaml").write_text(text)
    definition = ("-f", str(tmp_path / "it.yaml"))
    assert scar("run", *definition).code == 2  # which of the two?
    plain = scar("run", *definition, "-n", "o6")
    assert plain.code == 0
    assert "--inputs" in plain.err
    assert world.invoked == [b"{}"]
    world.invoked.clear()
    assert scar("run", *definition, "-n", "o6", "--inputs").code == 0
    assert keys(world) == ["in/a", "in/b"]


def test_what_batch_took_over_is_waited_for(world: World, scar: Scar, bucket: str) -> None:
    put(world, bucket, "in/a", "in/b")
    good, bad = world.job("o7", "SUCCEEDED", exit_code=0), world.job("o7", "FAILED", exit_code=9, statusReason="why")

    def respond(payload: bytes, _: bool) -> tuple[dict[str, Any], str | None]:
        return json.loads(Reply("r", (Run("k", 0, job_id=good if b"in/a" in payload else bad),)).to_json()), None

    world.respond = respond
    done = scar("run", "-n", world.function("o7", queue="scar-o7"), "-ib", f"{bucket}/in", "--wait", "-o", "json")
    assert (done.code, done.json["exit_code"]) == (9, 9)
    assert [run["exit_code"] for run in done.json["runs"]] == [0, 9]


def test_a_throttled_invocation_is_tried_again_and_nothing_else_is(world: World, scar: Scar, bucket: str) -> None:
    put(world, bucket, "in/a")
    name, busy = world.function("o8"), ["1", "2"]
    world.refuse = lambda: 429 if busy and busy.pop() else None
    assert scar("run", "-n", name, "-ib", f"{bucket}/in").code == 0
    assert len(world.invoked) == 1
    world.invoked.clear()
    broken = [1]
    world.refuse = lambda: 500 if broken and broken.pop() else None
    assert scar("run", "-n", name, "-ib", f"{bucket}/in").code == 6
    assert len(world.invoked) == 0


def test_an_output_file_is_whole_or_absent(world: World, scar: Scar, bucket: str, tmp_path: Path) -> None:
    name = world.function("o9")
    world.respond = lambda payload, _: (json.loads(Reply("r", (Run(None, 0, output="all\n"),)).to_json()), None)
    target = tmp_path / "out.txt"
    assert scar("run", "-n", name, "-o", str(target)).code == 0
    assert (target.read_text(), [path.name for path in tmp_path.iterdir()]) == ("all\n", ["out.txt"])
    assert scar("run", "-n", name, "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
    world.invoked.clear()
    assert scar("run", "-n", name, "-o", str(tmp_path / "no" / "folder")).code == 2
    assert not world.invoked


def test_an_event_may_be_written_on_the_command_line(world: World, scar: Scar) -> None:
    name = world.function("o10")
    assert scar("run", "-n", name, "--json-data", '{"a": 1}').code == 0
    assert world.invoked == [b'{"a": 1}']
    assert scar("run", "-n", name, "--json-data", "{").code == 2
    assert scar("run", "-n", name, "--json-data", "{}", "-ib", "b").code == 2


@pytest.mark.parametrize("many", [True, False], ids=["objects", "one run"])
def test_who_stops_watching_is_told_what_goes_on(world: World, bucket: str, many: bool, tmp_path: Path) -> None:
    """CL13: the process leaves at once, although Lambda has not answered."""
    put(world, bucket, "in/a", "in/b", "in/c")
    name, begun, go_on = world.function(f"o1{many:d}"), threading.Event(), threading.Event()

    def respond(payload: bytes, _: bool) -> tuple[dict[str, Any], str | None]:
        if b"in/c" in payload or not many:  # of two at a time the third begins when the first has ended
            begun.set()
        if b"in/a" not in payload:
            go_on.wait(20)
        return json.loads(Reply("r").to_json()), None

    world.respond = respond
    words = ["run", "-n", name, *(["-ib", f"{bucket}/in", "--jobs", "2"] if many else [])]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT}/faas-supervisor", "HOME": str(tmp_path)}
    # What a shell starts in the background is deaf to Ctrl-C, and so is all that it starts: these tests too.
    scar = ["env", "--default-signal=INT", sys.executable, "-m", "scar", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(scar, text=True, env=environ | world.environ(), **pipes)  # type: ignore[call-overload]
    try:
        assert begun.wait(30)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=15)
    finally:
        go_on.set()
        running.kill()
        running.wait()
    assert running.returncode == 130, err
    assert "goes on" in err
    assert f"scar log -n {name}" in err
    assert ("in/a" in out) is many
