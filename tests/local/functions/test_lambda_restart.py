"""Events wait for their turn, for room, and for the next daemon."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lambda_bench import ACCOUNT, FAIL, REGION, Local, arn, failed, processes, queue, runs, send, until

from scar.local.functions.engine import Pace


def test_events_of_a_function_that_may_not_run_age_and_do_not_hold_up_others(make_local: Callable[..., Local]) -> None:
    now = [time.time()]
    local = make_local(steady=lambda: now[0])
    local.make("blocked", "echo ran")
    local.make("free", "echo ran")
    local.lambda_.put_function_concurrency(FunctionName="blocked", ReservedConcurrentExecutions=0)
    local.lambda_.put_function_event_invoke_config(FunctionName="blocked", MaximumEventAgeInSeconds=60)
    for _ in range(3):
        send(local, "blocked")
    send(local, "free")
    until(lambda: local.logs.of("free"))
    assert local.functions.status()["functions"][arn("blocked")]["queued"] == 3
    now[0] += 61
    until(lambda: len(failed(local, "blocked")) == 3)
    assert "EventAgeExceeded" in failed(local, "blocked")[0]["reason"]
    assert not local.logs.of("blocked")


def test_one_functions_flood_does_not_starve_another(make_local: Callable[..., Local]) -> None:
    local = make_local(pace=Pace(workers=1))
    local.make("flood", "sleep 0.1")
    local.make("drop", "echo ran")
    for _ in range(40):
        send(local, "flood")
    send(local, "drop")
    until(lambda: local.logs.of("drop"), 3)
    assert runs(local, "flood") < 20


def test_what_runs_when_the_daemon_stops_is_delivered_by_the_next(make_local: Callable[..., Local]) -> None:
    """LO2: no process of it is left, and the event is not lost."""
    local = make_local()
    local.make("interrupted", "sleep 6161", Timeout=60)
    send(local, "interrupted", {"keep": "me"})
    until(lambda: processes("sleep 6161"))
    local.__exit__()
    assert processes("sleep 6161") == []
    again = local.reopened()
    again.lambda_.update_function_configuration(
        FunctionName="interrupted", Environment={"Variables": {"HANDLER": "cat /tmp/event", "INIT": ":"}}
    )
    with again:
        until(lambda: '{"keep": "me"}' in again.logs.of("interrupted"))
        assert again.functions.status()["failed_events"] == []


def test_a_retry_that_was_due_later_is_kept_over_a_restart(make_local: Callable[..., Local]) -> None:
    """LO18."""
    local = make_local(pace=Pace(retry_scale=1.0))
    local.make("patient", FAIL)
    send(local, "patient")
    (waiting,) = until(lambda: local.functions.status()["waiting_events"])
    assert waiting["failures"] == 1
    local.__exit__()
    again = local.reopened(pace=Pace(retry_scale=1.0))
    with again:
        (waiting,) = again.functions.status()["waiting_events"]
        assert waiting["failures"] == 1
        assert runs(again, "patient") == 0


def test_a_damaged_event_file_is_put_aside_and_the_others_are_delivered(make_local: Callable[..., Local]) -> None:
    local = make_local()
    local.make("whole", "cat /tmp/event")
    kept = local.functions.accept(arn("whole"), b'"kept"', account=ACCOUNT, region=REGION)
    events = local.folder / "functions" / "events"
    (events / "00000000000000001-cut.event").write_bytes((events / f"{kept.id}.event").read_bytes()[:-2])
    local.__exit__()
    again = local.reopened()
    with again:
        until(lambda: '"kept"' in again.logs.of("whole"))
    assert (events / "failed" / "00000000000000001-cut.damaged").exists()


def test_a_dead_letter_is_saved_before_its_event_goes(make_local: Callable[..., Local]) -> None:
    saved: list[tuple[list[str], int]] = []

    def persist(services: Sequence[str]) -> None:
        saved.append((list(services), len(list((local.folder / "functions" / "events").glob("*.event")))))

    local = make_local(persist=persist, pace=Pace(retry_scale=1 / 600))
    queue(local, "saved")
    local.make("saving", FAIL, DeadLetterConfig={"TargetArn": arn("saved", "sqs:{}:{}:")})
    send(local, "saving")
    until(lambda: failed(local, "saving"))
    assert saved == [(["sqs"], 1)]


def test_every_accepted_event_is_delivered_although_the_daemon_was_killed_twice(tmp_path: Path) -> None:
    """LO1, LO2: kill -9; the kernel takes what the daemon had started."""
    ran = tmp_path / "ran"

    def lines() -> list[str]:
        return ran.read_text().splitlines() if ran.exists() else []

    def seen() -> set[str]:
        return {line for line in lines() if line.startswith("ran ")}

    def daemon(count: int, ready: Callable[[], object]) -> None:
        program = [sys.executable, str(Path(__file__).with_name("mortal.py")), str(tmp_path), str(count)]
        with subprocess.Popen(program, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as process:
            try:
                until(ready, 20)
            finally:
                process.kill()

    daemon(30, lambda: len(seen()) >= 5)
    assert (tmp_path / "accepted").read_text() == "30"
    assert len(seen()) < 30
    until(lambda: not processes("/bootstrap"))  # the kernel takes what the daemon started
    before = len(seen())
    daemon(0, lambda: len(seen()) >= before + 5)
    daemon(0, lambda: len(seen()) == 30)
    assert seen() == {f"ran {number}" for number in range(30)}
