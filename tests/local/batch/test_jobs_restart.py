"""What was accepted is not lost: jobs outlive the daemon, whatever they were doing when it died."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from scar.local.batch.capacity import Machine
from scar.local.batch.job import Job
from scar.local.batch.job_journal import JobJournal, recorded
from scar.local.batch.records import Region
from scar.local.batch.table import Table
from scar.local.journal import OPENING
from scar.local.sandbox.spec import Choice
from scar.local.state import StateDamagedError
from tests.local.batch.job_bench import Instant, JobLab, plain_image, until
from tests.local.functions.lambda_bench import Local, processes, reset_moto


def new_table(path: Path, **settings: Any) -> Table:
    """What lies at `path`; its region is locked, as whoever uses a table must have it."""
    records, region = list(recorded(path)), Region("1", "r")
    region.lock.acquire()
    table = Table(region, JobJournal(path, compact_bytes=2000), clock=lambda: 1000.0, **settings)
    table.restore(records)
    return table


def job(table: Table, job_id: str, **more: Any) -> Job:
    made = Job(job_id, "n", "queue", "definition:1", {"dependsOn": []}, table.next_order(), 0, vcpus=1, **more)
    table.accept(made)()
    table.admit()
    return made


def finish(table: Table, *jobs: Job) -> None:
    for one in jobs:
        table.move(one, "STARTING")
        table.move(one, "SUCCEEDED")


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j"
    table = new_table(path)
    first, array = job(table, "a"), job(table, "b", size=3)
    third = job(table, "c")
    finish(table, first, array.children[1])
    table.move(third, "STARTING")
    table.close()
    again = new_table(path)
    assert [one.status for one in again.jobs.values()] == ["SUCCEEDED", "PENDING", "STARTING"]
    restored = again.find("b")
    assert restored is not None
    assert [one.status for one in restored.children] == ["RUNNABLE", "SUCCEEDED", "RUNNABLE"]
    assert +restored.counts == {"RUNNABLE": 2, "SUCCEEDED": 1}
    assert again.queues["queue"].unfinished == 4  # the array, two of its children, and the one that was starting
    assert [one.id for one in again.queues["queue"].runnable] == ["b:0", "b:2"]
    finish(again, *(one for one in restored.children if not one.ended))
    assert restored.status == "SUCCEEDED"


def test_a_torn_record_was_never_answered_and_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    table = new_table(path)
    job(table, "a")
    table.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:30])
    assert list(new_table(path).jobs) == ["a"]
    path.write_bytes(whole[:20] + b"\xff" + whole[21:])
    with pytest.raises(StateDamagedError):
        new_table(path)


def test_the_journal_shrinks_and_forgets_the_oldest_that_ended(tmp_path: Path) -> None:
    """LO14."""
    path = tmp_path / "j"
    table = new_table(path, kept_jobs=10)
    waiting = job(table, "waiting")
    for number in range(100):
        finish(table, job(table, f"job-{number}"))
        table.tidy()
    assert path.stat().st_size < 20_000
    table.close()
    again = new_table(path, kept_jobs=10)
    assert next(iter(again.jobs)) == waiting.id
    assert list(again.jobs)[-1] == "job-99"
    assert len(again.jobs) <= 12


def test_a_chain_of_ten_thousand_fails_without_a_stack_overflow(tmp_path: Path) -> None:
    table = new_table(tmp_path / "j", kept_jobs=100_000)
    array = Job("a", "n", "q", "d:1", {"dependsOn": [{"type": "SEQUENTIAL"}]}, table.next_order(), 0, size=10_000)
    table.accept(array)
    table.admit()
    begun = time.process_time()
    table.move(array.children[0], "STARTING")
    table.move(array.children[0], "FAILED")
    assert (array.status, +array.counts) == ("FAILED", {"FAILED": 10_000})
    assert time.process_time() - begun < 5


def test_a_job_of_which_the_table_has_long_been_rid_takes_little(tmp_path: Path) -> None:
    table = new_table(tmp_path / "j")
    large = Job("a", "n", "q", "d:1", {"parameters": {"p": "x" * 20_000}}, table.next_order(), 0)
    table.accept(large)
    table.admit()
    finish(table, large)
    assert isinstance(large.request, bytes)
    assert len(large.request) < 1000
    assert large.asked["parameters"]["p"] == "x" * 20_000


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    with Local(tmp_path / "local") as made:
        yield made
    reset_moto()


def test_jobs_go_on_with_the_next_daemon(local: Local, tmp_path: Path) -> None:
    """LO2: what ran is tried again where its strategy says so, what waited runs, what ended is known."""
    lab = JobLab(local, tmp_path, vcpus=2)
    rules = [{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
    strategy = {"attempts": 2, "evaluateOnExit": rules}
    mark = f"mark-{time.time_ns()}"
    lab.define("once", f": {mark}; while :; do sleep 0.05; done")
    lab.define("twice", "[ $AWS_BATCH_JOB_ATTEMPT = 2 ] || while :; do sleep 0.05; done")
    lab.define("waits", "echo waited")
    ended = lab.ended(lab.submit("waits"))
    once, twice = lab.submit("once"), lab.submit("twice", retryStrategy=strategy)
    waiting = lab.submit("waits")
    for job_id in (once, twice):
        lab.reach(job_id, "RUNNING")
    lab = lab.reopened(vcpus=2)
    assert processes(mark) == []
    assert lab.ended(twice)["status"] == "SUCCEEDED"
    job = lab.ended(once)
    assert job["status"] == "FAILED"
    assert job["statusReason"].startswith("Host EC2 (instance i-")
    assert lab.ended(waiting)["status"] == "SUCCEEDED"
    assert lab.job(ended["jobId"]) == ended
    lab.close()


def test_an_ended_daemon_writes_nothing_of_what_it_killed(local: Local, tmp_path: Path) -> None:
    lab = JobLab(local, tmp_path, engine=lambda: Choice(Instant()), machine=Machine(1000))
    lab.define("never", "x", resourceRequirements=[{"type": "VCPU", "value": "99"}, {"type": "MEMORY", "value": "4"}])
    job_id = lab.submit("never")
    lab = lab.reopened(engine=lambda: Choice(Instant()))
    assert lab.job(job_id)["status"] in ("SUBMITTED", "RUNNABLE")
    lab.close()


def ask_at_random(lab: JobLab, ids: list[str], seed: int, times: int, arrays: bool = True) -> None:
    """Whatever may be asked of jobs, in no order."""
    chance = random.Random(seed)
    for _ in range(times):
        match chance.randrange(8) if ids else 0:
            case 0 | 1 | 2:
                more: dict[str, Any] = {"retryStrategy": {"attempts": chance.randint(1, 3)}}
                if arrays and chance.random() < 0.3:
                    more["arrayProperties"] = {"size": chance.randint(2, 5)}
                if ids and chance.random() < 0.4:
                    more["dependsOn"] = [{"jobId": chance.choice(ids)}]
                ids.append(lab.submit("any", **more))
            case 3:
                lab.ask("CancelJob", jobId=chance.choice(ids), reason="cancelled")
            case 4:
                lab.ask("TerminateJob", jobId=chance.choice(ids), reason="terminated")
            case 5:
                lab.batch.page(f"reclaim/{chance.choice(ids)}{chance.choice(['', '#1'])}", None)
            case _:
                lab.ask("ListJobs", jobQueue="queue", jobStatus="RUNNABLE")


def test_whatever_is_asked_of_jobs_at_once_all_end_and_nothing_is_counted_wrongly(local: Local, tmp_path: Path) -> None:
    """LO2, LO7: many callers at once, a restart in the middle, and afterwards the machine is as free as before."""
    settings: dict[str, Any] = {"engine": lambda: Choice(Instant()), "machine": Machine(400), "vcpus": 4}
    lab = JobLab(local, tmp_path, **settings)
    lab.define("any", "x")
    ids: list[str] = []
    callers = [threading.Thread(target=ask_at_random, args=(lab, ids, seed, 60)) for seed in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    lab = lab.reopened(**{**settings, "machine": Machine(400)})
    queue = lab.region.queues["queue"].arn
    until(lambda: lab.jobs.unfinished(lab.region, queue) == 0, 30)
    assert len(ids) > 60
    assert {lab.job(job_id)["status"] for job_id in ids} <= {"SUCCEEDED", "FAILED"}
    usage = lab.ask("GetJobQueueSnapshot", jobQueue="queue")["queueUtilization"]["totalCapacityUsage"]
    assert usage == [{"capacityUnit": "VCPU", "quantity": 0.0}]
    lab.define("all", "x", resourceRequirements=[{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "300"}])
    assert lab.ended(lab.submit("all"))["status"] == "SUCCEEDED"
    lab.close()
    assert lab.told == []
    cut_anywhere(next((tmp_path / "batch" / "jobs").glob("*.journal")))


def cut_anywhere(journal: Path) -> None:
    """Wherever the machine stops, what is left of the journal is a table that adds up."""
    whole = journal.read_bytes()
    for size in range(len(OPENING), len(whole), max(1, len(whole) // 40)):  # it has its name only with its first record
        journal.write_bytes(whole[:size])
        table = new_table(journal)
        table.admit()
        everyone = [one for top in table.jobs.values() for one in (top, *top.children)]
        assert sum(queue.unfinished for queue in table.queues.values()) == sum(not one.ended for one in everyone)
        for parent in table.jobs.values():
            assert +parent.counts == Counter(child.status for child in parent.children)
        table.close()


def start_daemon(state: Path) -> tuple[subprocess.Popen[bytes], str]:
    daemon = subprocess.Popen([sys.executable, "-m", "scar.local.daemon", "--state", str(state)])
    address = state / "daemon.json"

    def told() -> Any:
        known = json.loads(address.read_text()) if address.exists() else {}
        return known if known.get("pid") == daemon.pid else None

    return daemon, f"http://127.0.0.1:{until(told, 30)['port']}"


def test_a_killed_daemon_loses_no_job_and_leaves_no_process(tmp_path: Path) -> None:
    """LO1, LO2: kill -9, with an unmodified client before and after."""
    daemon, url = start_daemon(tmp_path / "state")
    try:
        batch, iam = client("batch", url), client("iam", url)
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName="instance", AssumeRolePolicyDocument=document)
        iam.create_instance_profile(InstanceProfileName="instance")
        iam.add_role_to_instance_profile(InstanceProfileName="instance", RoleName="instance")
        set_up_queue(batch, client("ec2", url))
        push_busybox(url)
        mark = f"mark-{time.time_ns()}"
        script = f": {mark}; echo up; [ $AWS_BATCH_JOB_ATTEMPT = 2 ] || while :; do sleep 0.05; done"
        register(batch, "loop", script)
        running, *waiting = [
            batch.submit_job(jobName=f"job-{n}", jobQueue="queue", jobDefinition="loop")["jobId"] for n in range(3)
        ]
        until(lambda: status_of(batch, running) == "RUNNING", 20)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        until(lambda: not processes(mark))
        daemon, url = start_daemon(tmp_path / "state")
        batch = client("batch", url)
        for job_id in (running, *waiting[:1]):
            until(lambda one=job_id: status_of(batch, one) in ("SUCCEEDED", "RUNNING"), 20)
        job = batch.describe_jobs(jobs=[running])["jobs"][0]
        assert job["attempts"][0]["statusReason"].startswith("Host EC2 (instance i-")
        assert {one["jobId"] for one in batch.describe_jobs(jobs=[running, *waiting])["jobs"]} == {running, *waiting}
        logs = client("logs", url)
        stream = until(lambda: batch.describe_jobs(jobs=[running])["jobs"][0]["container"].get("logStreamName"))
        group = "/aws/batch/job"
        until(lambda: logs.get_log_events(logGroupName=group, logStreamName=stream)["events"])
    finally:
        daemon.terminate()
        daemon.wait(30)
    assert processes(mark) == []


def client(service: str, url: str) -> Any:
    config = Config(retries={"max_attempts": 0})
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=config,
    )


def status_of(batch: Any, job_id: str) -> str:
    return str(batch.describe_jobs(jobs=[job_id])["jobs"][0]["status"])


def set_up_queue(batch: Any, ec2: Any) -> None:
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    resources = {
        "type": "EC2",
        "allocationStrategy": "BEST_FIT_PROGRESSIVE",
        "minvCpus": 0,
        "maxvCpus": 1,
        "instanceTypes": ["optimal"],
        "subnets": [subnet],
        "securityGroupIds": [group],
        "instanceRole": "instance",
    }
    batch.create_compute_environment(computeEnvironmentName="ce", type="MANAGED", computeResources=resources)
    until(lambda: batch.describe_compute_environments()["computeEnvironments"][0]["status"] == "VALID")
    order = [{"order": 1, "computeEnvironment": "ce"}]
    batch.create_job_queue(jobQueueName="queue", priority=1, computeEnvironmentOrder=order)
    until(lambda: batch.describe_job_queues()["jobQueues"][0]["status"] == "VALID")


def register(batch: Any, name: str, script: str) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/scar/plain:latest"
    needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
    container = {"image": image, "command": ["/bin/sh", "-c", script], "resourceRequirements": needs}
    batch.register_job_definition(
        jobDefinitionName=name, type="container", containerProperties=container, retryStrategy={"attempts": 2}
    )


def push_busybox(url: str) -> None:
    plain_image(Pushing(url))


class Pushing(Local):
    """Only the registry's client of it, on a daemon that runs already."""

    def __init__(self, url: str) -> None:
        self.url = url


def test_what_cannot_be_written_is_not_taken_and_what_runs_goes_on(tmp_path: Path) -> None:
    """LO5."""
    told: list[str] = []
    table = new_table(tmp_path / "j", tell=told.append)
    running = job(table, "running")
    table.close()  # every write fails from now on, as on a full disk
    with pytest.raises(OSError, match="Bad file"):
        job(table, "refused")
    assert list(table.jobs) == ["running"]
    sync = table.move(running, "STARTING")
    assert running.status == "STARTING"
    assert "running could not be written down" in told[0]
    with pytest.raises(OSError, match="Bad file"):
        sync()
