"""`scar put --wait`: which runs an upload starts, and how they end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs_edge import ACCOUNT, REGION, Scar, World

IDS = [f"0c0c0c0c-0000-4000-8000-00000000000{n}" for n in range(4)]


@pytest.fixture
def photos(world: World, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """A bucket whose folders start functions."""

    def make(**functions: str) -> str:
        name = f"p-{abs(hash(request.node.nodeid)):x}"
        world.mine.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        entries = [
            {
                "LambdaFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{world.function(function)}",
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}},
            }
            for function, prefix in functions.items()
        ]
        world.mine.s3.put_bucket_notification_configuration(
            Bucket=name,
            NotificationConfiguration={"LambdaFunctionConfigurations": entries},
            SkipDestinationValidation=True,
        )
        (tmp_path / "x").mkdir()
        for file in ("a", "b"):
            (tmp_path / "x" / file).write_text(file)
        return name

    return make


def fact(request: str, said: str, **facts: object) -> str:
    return json.dumps({"level": "INFO", "request_id": request, "fact": said, **facts})


def run(world: World, function: str, request: str, bucket: str, key: str, *more: str, end: bool = True) -> None:
    """What a run leaves in the log."""
    world.log(
        f"/aws/lambda/{function}",
        f"{function}-{request[-1]}",
        f"START RequestId: {request} Version: $LATEST",
        fact(request, "took a record", bucket=bucket, key=key),
        *more,
        *([f"REPORT RequestId: {request}\tDuration: 1.00 ms\tBilled Duration: 1 ms"] if end else []),
    )


def once_there(world: World, bucket: str, key: str, then: Callable[[], None]) -> None:
    """As S3's event would: when the object has been put."""

    def wait() -> None:
        end = time.monotonic() + 30
        while world.mine.s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] == 0 and time.monotonic() < end:
            time.sleep(0.02)
        then()

    threading.Thread(target=wait, daemon=True).start()


def test_the_runs_are_seen_to_their_end_and_the_first_failure_counts(
    world: World, scar: Scar, photos: Callable[..., str], tmp_path: Path
) -> None:
    bucket = photos(cow="in/")
    run(world, "cow", IDS[3], bucket, "in/a", fact(IDS[3], "script ended", exit_code=9))  # of a former upload
    failed = ("oh no", fact(IDS[2], "script ended", exit_code=6), fact(IDS[2], "a record failed", kind="ScriptFailed"))

    def runs() -> None:
        run(world, "cow", IDS[0], bucket, "in/a")
        run(world, "cow", IDS[1], "another", "in/b")
        time.sleep(0.4)
        run(world, "cow", IDS[2], bucket, "in/b", *failed)

    once_there(world, bucket, "in/b", runs)
    done = scar("put", "-b", f"{bucket}/in", "-p", str(tmp_path / "x"), "--wait", "-o", "json")
    assert (done.code, done.json["exit_code"], done.json["bytes"]) == (6, 6, 2)
    assert done.json["runs"] == [
        {"object": f"s3://{bucket}/in/{key}", "function": "cow", "request_id": id_, "jobs": [], "exit_code": code}
        for key, id_, code in (("a", IDS[0], 0), ("b", IDS[2], 6))
    ]
    assert "| oh no" in done.err
    assert f"scar log -n cow -ri {IDS[2]}" in done.err


def test_what_batch_took_over_is_waited_for(
    world: World, scar: Scar, photos: Callable[..., str], tmp_path: Path
) -> None:
    bucket = photos(pig="in/")
    world.function("pig", queue="scar-pig")
    one = world.job("pig", "RUNNING")
    handed_over = fact(IDS[0], "handed over", job_id=one)
    once_there(world, bucket, "in/a", lambda: run(world, "pig", IDS[0], bucket, "in/a", handed_over))
    looks = iter(range(10))
    world.each_describe = lambda: world.end(one, 4) if next(looks) == 1 else None
    done = scar("put", "-b", f"{bucket}/in", "-p", str(tmp_path / "x" / "a"), "--wait", "-o", "json")
    assert (done.code, done.json["runs"][0]["jobs"]) == (4, [one])


def test_where_nothing_would_run_nothing_is_uploaded(
    world: World, scar: Scar, photos: Callable[..., str], tmp_path: Path
) -> None:
    bucket = photos(cow="in/")
    done = scar("put", "-b", f"{bucket}/aside", "-p", str(tmp_path / "x"), "--wait")
    assert done.code == 3
    assert "in/ → cow" in done.err
    assert world.mine.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_run_that_does_not_come_is_given_up_when_it_was_asked_so(
    world: World, scar: Scar, photos: Callable[..., str], tmp_path: Path
) -> None:
    bucket = photos(owl="in/", hen="in/sub/")
    world.log("/aws/lambda/owl", "s", "nothing of ours")
    began_s = time.monotonic()
    done = scar("put", "-b", f"{bucket}/in", "-p", str(tmp_path / "x"), "--wait", "--timeout", "1s")
    assert done.code == 124
    assert "2 runs, 2 of them not begun" in done.err
    assert time.monotonic() - began_s < 30
    assert scar("put", "-b", bucket, "-p", str(tmp_path / "x"), "--timeout", "1s").code == 2
