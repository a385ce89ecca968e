"""How many sandboxes live, for how long, and what ends them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from lambda_bench import ACCOUNT, COUNT, REGION, Local, error_of, processes, send, until

from scar.errors import ScarError
from scar.local.functions.engine import Pace
from scar.local.functions.pool import Bounds
from scar.local.sandbox import Choice, choose


def test_initialisation_longer_than_its_limit_counts_as_running_time(make_local: Callable[..., Local]) -> None:
    local = make_local(pace=Pace(init_s=0.3))
    local.make("late", COUNT, init="sleep 0.8", Timeout=5)
    assert local.invoke("late")["body"]["n"] == 1
    local.make("too-late", COUNT, init="sleep 30", Timeout=1)
    started = time.monotonic()
    assert error_of(local.invoke("too-late"))[0] == "Sandbox.Timedout"
    assert time.monotonic() - started < 3


def test_the_accounts_concurrency_refuses_what_is_above_it(make_local: Callable[..., Local]) -> None:
    local = make_local(bounds=Bounds(concurrency=1))
    local.make("one", "sleep 0.6")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(local.invoke, "one")
        time.sleep(0.3)
        with pytest.raises(ClientError, match="TooManyRequests"):
            local.invoke("one")
        first.result()


def test_idle_sandboxes_are_retired(make_local: Callable[..., Local]) -> None:
    local = make_local(bounds=Bounds(idle_s=0.5))
    local.make("idle", COUNT)
    local.invoke("idle")
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:idle"
    until(lambda: local.functions.status()["functions"][arn]["warm"] == 0)
    assert local.invoke("idle")["body"]["n"] == 1


def test_too_many_idle_sandboxes_are_retired(make_local: Callable[..., Local]) -> None:
    local = make_local(bounds=Bounds(idle_sandboxes=2))
    for name in ("a", "b", "c"):
        local.make(name)
        local.invoke(name)
    until(lambda: sum(of["warm"] for of in local.functions.status()["functions"].values()) == 2)


def test_stopping_kills_what_runs_and_tells_its_caller(make_local: Callable[..., Local]) -> None:
    local = make_local()
    local.make("endless", "sleep 5151", Timeout=60)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(local.invoke, "endless")
        until(lambda: processes("sleep 5151"))
        local.functions.stop()
        with pytest.raises(ClientError, match="stopping"):
            running.result()
    assert processes("sleep 5151") == []
    local.functions.install()  # the fixture stops it once more


def test_a_hundred_runs_in_one_sandbox_leave_no_thread_and_no_file_open_here(make_local: Callable[..., Local]) -> None:
    local = make_local()
    local.make("often", COUNT)

    def open_here() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    for _ in range(3):
        local.invoke("often")
    files, threads = open_here()
    for _ in range(100):
        local.invoke("often")
    assert local.invoke("often")["body"]["n"] == 104
    until(lambda: open_here()[0] <= files + 2 and open_here()[1] <= threads + 2)


def test_sandboxes_that_ended_leave_no_thread_and_no_file_open_here(make_local: Callable[..., Local]) -> None:
    local = make_local()
    local.make("dies", "exit 1")
    local.invoke("dies")
    files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(10):
        local.invoke("dies")
    until(lambda: threading.active_count() <= threads + 2)
    until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= files + 2)


def test_without_a_sandbox_engine_the_caller_is_told_why_and_events_wait(make_local: Callable[..., Local]) -> None:
    working = [False]

    def engine() -> Choice:
        if not working[0]:
            raise ScarError("no way to run containers here")
        return choose(scratch=local.folder / "scratch")

    local = make_local(engine=engine)
    local.make("homeless", "echo ran")
    with pytest.raises(ClientError, match="no way to run containers here"):
        local.invoke("homeless")
    send(local, "homeless")
    (waiting,) = until(lambda: local.functions.status()["waiting_events"])
    assert (waiting["failures"], waiting["reason"]) == (0, "no way to run containers here")
    working[0] = True
    until(lambda: "ran" in local.logs.of("homeless"))
