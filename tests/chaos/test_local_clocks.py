"""LO16, LO18: a clock that is set back, or on by years, and restarts in the middle of waiting: order is kept, and what is to come still comes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scar.local.functions.queue import Again, Event, EventQueue, GaveUp, Verdict
from scar.local.onward import Onward
from scar.local.s3_events import Sequencer
from tests.chaos import crash_story
from tests.chaos.crash_story import LEAVE_A_MARK, Daemon, heard, prepare
from tests.chaos.local_forks import ENVIRON, Forks, until

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)
DAY_S = 86_400


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Forks]:
    """Daemons whose time of day is moved by what `tmp_path / "moved"` says."""
    (tmp_path / "moved").write_text("+0\n")
    library = next(path for path in LIBRARIES if Path(path).exists())
    faked = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "moved"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    with Forks(environ={**ENVIRON, **faked}) as made:
        yield made


def test_a_clock_that_is_set_back_on_and_past_2038_loses_no_order_and_holds_up_nothing(
    forks: Forks, tmp_path: Path
) -> None:
    """LO16: versions, events, log lines and a job's times stay in their order; events run, also over a restart."""
    forks.start(tmp_path / "state")
    prepare(forks.clients)
    clients, s3 = forks.clients, forks.clients("s3")
    local = Daemon(clients.url)
    made = clients("lambda").get_function(FunctionName="hears")
    local.__dict__.update(role=made["Configuration"]["Role"], image=made["Code"]["ImageUri"])
    local.make("fails", "end=error; echo '{}' >/tmp/reply; " + LEAVE_A_MARK)
    moves = ["+0", f"-{DAY_S}", f"+{20 * 365 * DAY_S}", "-3600"]  # the third is past 2038
    versions, sequencers, jobs = [], [], []
    clients("sqs").create_queue(QueueName="told")
    arn = f"arn:aws:sqs:us-east-1:{crash_story.ACCOUNT}:told"
    s3.put_bucket_notification_configuration(
        Bucket="versions",
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    for number, moved in enumerate(moves):
        clients("lambda").invoke(FunctionName="fails", InvocationType="Event", Payload=f'"mark-{number}"'.encode())
        (tmp_path / "moved").write_text(f"{moved}\n")
        versions.append(s3.put_object(Bucket="versions", Key="v", Body=b"%d" % number)["VersionId"])
        jobs.append(clients("batch").submit_job(jobName=f"j{number}", jobQueue="jobs", jobDefinition="job")["jobId"])
        until(f"the event after {moved}", lambda seen=f"mark-{number}": seen in heard(clients))
        if number == 1:
            forks.kill()
            forks.start(tmp_path / "state")
    listed = s3.list_object_versions(Bucket="versions", Prefix="v")["Versions"]
    assert [version["VersionId"] for version in listed] == versions[::-1]
    assert [version["IsLatest"] for version in listed] == [True, False, False, False]
    assert s3.get_object(Bucket="versions", Key="v")["Body"].read() == b"3"
    url = f"{clients.url}/{crash_story.ACCOUNT}/told"

    def records() -> list[Any]:
        answer = clients("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        bodies = [json.loads(message["Body"]) for message in answer.get("Messages", ())]
        sequencers.extend(
            body["Records"][0]["s3"]["object"] for body in bodies if "Records" in body
        )  # not S3's test event
        return sequencers if len(sequencers) >= len(moves) else []

    until("the records", records)
    assert [one["versionId"] for one in sorted(sequencers, key=lambda one: str(one["sequencer"]))] == versions
    for job_id in jobs:
        job = until(f"job {job_id}", lambda one=job_id: ended(clients, one))
        times = [
            job["createdAt"],
            job.get("startedAt", job["createdAt"]),
            job["stoppedAt"],
        ]  # killed before it had started
        assert times == sorted(times) and times[-1] < times[0] + 600_000, job
    # Two retries each: none waits for a clock that was set back, none was given up for its age.
    status = until("all retries", lambda: all_failed(forks, len(moves)))
    assert {event["reason"].split(":")[0] for event in status["failed_events"]} == {"RetriesExhausted"}


def ended(clients: Any, job_id: str) -> Any:
    job = clients("batch").describe_jobs(jobs=[job_id])["jobs"][0]
    return job if job["status"] in ("SUCCEEDED", "FAILED") else None


def all_failed(forks: Forks, count: int) -> Any:
    import urllib.request

    with urllib.request.urlopen(f"{forks.clients.url}/_scar/status") as answer:
        functions = json.load(answer)["functions"]
    return functions if len(functions["failed_events"]) >= count else None


def test_messages_keep_their_count_of_tries_and_go_to_the_dead_letters_over_restarts(tmp_path: Path) -> None:
    """LO18: received twice, the daemon killed after each; the third time it is where redriven messages go."""
    with Forks() as forks:
        forks.start(tmp_path / "state")
        sqs = forks.clients("sqs")
        dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
        redrive = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{crash_story.ACCOUNT}:dead", "maxReceiveCount": "2"}
        settings = {"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "1"}
        queue = sqs.create_queue(QueueName="queue", Attributes=settings)["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody="m")
        saved = tmp_path / "state" / "services" / "sqs.snapshot"

        def received(url: str) -> Any:
            return sqs.receive_message(QueueUrl=url, AttributeNames=["ApproximateReceiveCount"]).get("Messages")

        for count in ("1", "2"):
            before = saved.stat().st_mtime_ns
            (message,) = until(f"try {count}", lambda: received(queue))
            assert message["Attributes"]["ApproximateReceiveCount"] == count
            until("the count", lambda at=before: saved.stat().st_mtime_ns > at)
            forks.kill()
            forks.start(tmp_path / "state")
        until("the dead letter", lambda: received(queue) is None and received(dead))


class Noted:
    """Delivers nothing but counts; every event fails twice and then for good."""

    def __init__(self) -> None:
        self.ran: list[int] = []

    def may_run(self, event: Event) -> bool:
        return True

    def expired(self, event: Event) -> bool:
        return False

    def run(self, event: Event, payload: bytes) -> Verdict:
        self.ran.append(event.failures)
        return (
            Again(DAY_S if event.failures == 0 else 0.01, "no", counted=True)
            if event.failures < 2
            else GaveUp("enough")
        )


@pytest.mark.parametrize("set_by_s", [0, -10 * 365 * DAY_S, 10 * 365 * DAY_S])
def test_a_retry_goes_on_with_its_count_after_a_restart_however_the_clock_was_set(
    tmp_path: Path, set_by_s: int
) -> None:
    """LO16, LO18: due in a day; a clock set back does not make it ten years, one set on makes it now."""
    first = Noted()
    queue = EventQueue(tmp_path, first, workers=1)
    queue.dispatch(queue.accept("f", b"x", account="1", region="r"))
    queue.start()
    until("the note", lambda: list(tmp_path.glob("*.tries")))
    until("its wait", lambda: queue.waiting(1))
    queue.stop()
    second = Noted()
    again = EventQueue(tmp_path, second, workers=1, clock=lambda: time.time() + set_by_s)
    again.start()
    if set_by_s > 0:
        until("the end", again.failed)
        assert second.ran == [1, 2]
    else:
        ((event, left_s),) = [(entry[2], entry[0] - time.monotonic()) for entry in again._later]
        assert event.failures == 1
        assert DAY_S - 600 < left_s <= DAY_S
    again.stop()
    assert first.ran == [0]


def test_numbers_of_events_rise_over_restarts_whatever_the_clock_says(tmp_path: Path) -> None:
    """LO16."""
    numbers = []
    for clock_ns in (2_000, 1_000, 5, 10**18, 7):
        sequencer = Sequencer(tmp_path / "sequence", lambda at=clock_ns: at)
        numbers += [sequencer.next() for _ in range(3)]
    assert numbers == sorted(set(numbers))


def test_a_time_of_day_that_is_set_back_goes_on_from_what_was_said() -> None:
    """LO16: in the autumn's second hour too, if somebody keeps local time."""
    wall, elapsed = iter([100.0, 101.0, 40.0, 41.0, 103.5]), iter([0.0, 1.0, 2.0, 3.0, 4.0])
    clock = Onward(lambda: next(wall), lambda: next(elapsed))
    assert [clock() for _ in range(4)] == [101.0, 102.0, 103.0, 103.5]
