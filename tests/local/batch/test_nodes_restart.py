"""Multi-node parallel jobs outlive the daemon, and whatever is asked of them at once nothing is counted wrongly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scar.local.batch.attempt import Ending
from scar.local.batch.capacity import Machine
from scar.local.batch.job import Job
from scar.local.batch.job_journal import JobJournal, recorded
from scar.local.batch.node import Nodes
from scar.local.batch.outcomes import Outcomes
from scar.local.batch.records import Region
from scar.local.batch.table import Table
from scar.local.sandbox.spec import Choice
from tests.local.batch.job_bench import Held, Instant, JobLab, until
from tests.local.batch.test_jobs_restart import ask_at_random
from tests.local.functions.lambda_bench import Local, processes, reset_moto


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with Local(tmp_path_factory.mktemp("local")) as made:
        yield made
    reset_moto()


def test_what_an_earlier_daemon_was_running_is_lost_with_its_machines_and_tried_anew(
    local: Local, tmp_path: Path
) -> None:
    """LO2, MP5: real nodes, none of which is left."""
    lab = JobLab(local, tmp_path)
    mark = f"mark-{id(lab)}"
    loop = f": {mark}; [ $AWS_BATCH_JOB_ATTEMPT = 2 ] || while :; do sleep 0.05; done"
    rules = [{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
    definition = lab.define_nodes("anew", loop, nodes=2)
    twice = lab.submit(definition, retryStrategy={"attempts": 2, "evaluateOnExit": rules})
    once = lab.submit(definition)
    for job_id in (once, twice):
        lab.reach(f"{job_id}#1", "RUNNING")
    lab = lab.reopened()
    assert lab.ended(twice)["status"] == "SUCCEEDED"
    assert [len(lab.job(f"{twice}#{index}")["attempts"]) for index in (0, 1)] == [2, 2]
    job = lab.ended(once)
    nodes = [lab.job(f"{once}#{index}") for index in (0, 1)]
    assert {one["status"] for one in (job, *nodes)} == {"FAILED"}
    assert len({one["statusReason"] for one in nodes}) == 2
    assert all(one["statusReason"].startswith("Host EC2 (instance i-") for one in (job, *nodes))
    assert processes(mark) == []
    lab.close()


def test_ended_nodes_are_known_to_the_next_daemon_as_they_were(local: Local, tmp_path: Path) -> None:
    """LO2: also after the journal was written anew."""
    engine = Held()
    lab = JobLab(local, tmp_path, engine=lambda: Choice(engine))
    job_id = lab.submit(lab.define_nodes("kept", "x", nodes=3, main=1))
    until(lambda: len(engine.programs) == 3)
    engine.programs[f"{job_id}#2"].end(7)
    lab.reach(f"{job_id}#2", "FAILED")
    engine.programs[f"{job_id}#1"].end(0)
    lab.ended(job_id)
    cancelled = lab.submit(lab.define_nodes("off", "x", nodes=2), dependsOn=[{"jobId": lab.submit("kept")}])
    lab.ask("CancelJob", jobId=cancelled, reason="off")
    named = [job_id, cancelled, *(f"{one}#{index}" for one in (job_id, cancelled) for index in (0, 1))]
    before = [lab.job(one) for one in named]
    for _ in range(2):
        lab = lab.reopened(engine=lambda: Choice(engine))
        assert [lab.job(one) for one in named] == before
        [part] = lab.jobs._parts.values()
        with part.region.lock:
            part.table._journal.compact(part.table._records())
    lab.close()


@pytest.mark.parametrize(("code", "status"), [(0, "SUCCEEDED"), (3, "FAILED")])
def test_a_main_nodes_end_that_was_written_down_is_the_jobs(tmp_path: Path, code: int, status: str) -> None:
    """LO2: the daemon died after the main node and before the job was said to have ended."""

    def opened() -> tuple[Table, list[Job], Outcomes]:
        records, region = list(recorded(tmp_path / "j")), Region("1", "r")
        region.lock.acquire()
        table = Table(region, JobJournal(tmp_path / "j"), clock=lambda: 1000.0)
        return table, table.restore(records), Outcomes(region, table)

    table, _, outcomes = opened()
    nodes = Nodes(2, 0)
    job = Job("a", "n", "queue", "definition:1", {}, table.next_order(), 0, vcpus=2, nodes=nodes)
    table.accept(job)()
    table.admit()
    job.attempts.append({"container": {}, "instance": "i-1"})
    table.move(job, "STARTING")
    main, child = nodes.begin()
    outcomes.node_starting(job, main, job.attempts[-1])
    outcomes.node_starting(job, child, {"container": {}, "instance": "i-2"})
    outcomes.node_ended(job, main, Ending(code))
    table.close()

    table, running, outcomes = opened()
    [again] = running
    outcomes.lost(again)
    assert (again.status, again.attempts[-1]["container"]["exitCode"], len(again.attempts)) == (status, code, 1)
    found = table.find_node("a#1")
    assert found is not None
    assert (found[1].status, found[1].reason) == ("FAILED", "Host EC2 (instance i-2) terminated.")


def test_whatever_is_asked_of_nodes_at_once_all_end_and_nothing_is_counted_wrongly(
    local: Local, tmp_path: Path
) -> None:
    """LO2, LO7: many callers at once, a restart in the middle, and afterwards the machine is as free as before."""
    settings: dict[str, Any] = {"engine": lambda: Choice(Instant()), "machine": Machine(400), "vcpus": 4}
    lab = JobLab(local, tmp_path, **settings)
    lab.define_nodes("any", "x", nodes=3)
    ids: list[str] = []
    callers = [threading.Thread(target=ask_at_random, args=(lab, ids, seed, 40, False)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    lab = lab.reopened(**settings)
    queue = lab.region.queues["queue"].arn
    until(lambda: lab.jobs.unfinished(lab.region, queue) == 0)
    told = [lab.job(job_id)["status"] for job_id in dict.fromkeys(ids)]
    assert set(told) <= {"SUCCEEDED", "FAILED"}
    last = lab.submit(lab.define_nodes("all", "x", nodes=4))
    assert lab.ended(last)["status"] == "SUCCEEDED"
    assert {lab.job(f"{one}#2")["status"] for one in ids} <= {"SUCCEEDED", "FAILED"}
    lab.close()
