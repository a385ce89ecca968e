"""How many sandboxes live, for how long, and what ends them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from lambda_bench import ACCOUNT, COUNT, REGION, Local, error_of, processes, until

from scar.local.functions.engine import Pace
from scar.local.functions.pool import Bounds


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
