"""kill -9 at any system call of an event's work, and the same event again: what is left of the promises?

Each sweep records the calls of one whole event. Then agent after agent gets an event of its own and is killed at one of them, with all that
it has started, as a platform ends a sandbox; the next one, on the same disk, first gets that event again. What is looked at: outputs are
whole or absent at every moment, all there in the end, and written no oftener than told; nothing of the dead run is seen by the next one or
left on the disk; in the modes with a ledger there is one job at most, and `done` is written once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faassupervisor.contract import Storage
from tests.chaos.agents import (
    HOUR_S,
    PATIENCE_S,
    Watched,
    entries,
    left_in,
    published,
    running_in,
    told,
    turns,
    unfinished,
    versioned,
    watched,
)
from tests.chaos.choice import Choice
from tests.supervisor.batch_lab import Handing, handing
from tests.supervisor.conftest import Bucket, Lab, bucket, lab, s3_client, s3_endpoint
from tests.support.system_calls import Call, Traced, kill_at, let
from tests.support.wall_clock import Wall

__all__ = ["bucket", "handing", "lab", "s3_client", "s3_endpoint"]

# Says how many files and records it sees; makes three outputs, one of them in parts when the input is called so.
SCRIPT = """#!/bin/sh
set -e
echo $(ls -A "$TMP_INPUT_DIR" | wc -l) $(ls -A "$TMP_INPUT_DIR/../.." | wc -l)
name="$(basename "$INPUT_FILE_PATH")"
mkdir "$TMP_OUTPUT_DIR/$name"
cd "$TMP_OUTPUT_DIR/$name"
cp "$INPUT_FILE_PATH" a
tr a-z A-Z < "$INPUT_FILE_PATH" > b
cat "$INPUT_FILE_PATH" > c
case "$name" in large*) truncate -s 17M c ;; esac
"""
ALONE = "1 1\n"


class Event:
    """One object that was uploaded; what becomes of it is looked for by its name."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self.bucket, self.name, self.request_id = bucket, name, f"r-{name}"
        content = f"canary {name}\n".encode()
        self.payload = {"Records": [bucket.put(f"in/{name}", content)]}
        c = content.ljust(17 << 20, b"\0") if name.startswith("large") else content
        self.expected = {"a": content, "b": content.upper(), "c": c}

    def published(self) -> dict[str, list[bytes]]:
        return published(self.bucket, f"out/{self.name}/")

    def is_whole_or_absent(self, where: Call | None) -> None:
        for key, versions in self.published().items():
            wrong = [len(body) for body in versions if body != self.expected[key]]
            assert not wrong, f"killed at {where}: {key} was seen with {wrong} bytes that are not its content"

    def is_published(self, where: Call | None, *, at_most: int) -> None:
        self.is_whole_or_absent(where)
        counts = {key: len(versions) for key, versions in self.published().items()}
        assert counts.keys() == self.expected.keys(), f"killed at {where}: published are {sorted(counts)}"
        assert max(counts.values()) <= at_most, f"killed at {where}: written so often: {counts}"

    def forget(self) -> None:
        """Its outputs, which may be large."""
        found = self.bucket.client.list_object_versions(Bucket=self.bucket.name, Prefix=f"out/{self.name}/")["Versions"]
        for version in found:
            self.bucket.client.delete_object(
                Bucket=self.bucket.name, Key=version["Key"], VersionId=version["VersionId"]
            )

    def ledger(self) -> list[dict[str, object]]:
        return entries(self.bucket, self.payload)


def nothing_is_left(lab: Lab, where: Call | None) -> None:
    assert left_in(lab.temporary) == [], f"killed at {where}"
    assert running_in(lab.home) == [], f"killed at {where}"


class Sweep:
    """Agents of one function, one after another on one disk: each takes up what the one before it died of, and dies of something else."""

    def __init__(self, lab: Lab, function: Path, environment: dict[str, str], *, hourly: bool = False) -> None:
        self.lab, self.function = lab, function
        self._ahead_s, self._between_s, self.wall = 0, HOUR_S if hourly else 0, Wall(lab.home)
        self.environment = {**environment, **(self.wall.variables if hourly else {})}

    @contextmanager
    def agent(self) -> Iterator[Watched]:
        self._ahead_s += self._between_s
        self.wall.jumps(self._ahead_s)
        with watched(self.lab, self.function, self.environment, ahead_s=self._ahead_s) as agent:
            yield agent

    def record(self, event: Event) -> list[Call]:
        with self.agent() as agent:
            agent.traced.watch()
            agent.answers(event.payload, event.request_id)
            return agent.traced.made

    def deaths(self, points: list[int], events: list[Event]) -> Iterator[tuple[Event, Call | None, Watched]]:
        """For each point, an event at whose work an agent has just died there, and the agent that comes after it."""
        before: tuple[Event, Call | None] | None = None
        for point, event in zip([*points, None], [*events, None], strict=True):
            with self.agent() as agent:
                if before is not None:
                    yield (*before, agent)
                if point is not None and event is not None:
                    where = agent.dies_at(point, event.payload, event.request_id)
                    event.is_whole_or_absent(where)
                    before = event, where


def test_an_agent_that_is_killed_at_any_call_leaves_whole_outputs_and_a_clean_place(
    lab: Lab, bucket: Bucket, choice: Choice
) -> None:
    """XF9, XF10: mode lambda. Without a ledger a second attempt publishes again, the same bytes under the same keys."""
    versioned(bucket)
    sweep = Sweep(lab, lab.function(SCRIPT, outputs=(Storage("s3", bucket.name, "out"),)), {})
    made = sweep.record(Event(bucket, "first"))
    points = choice.of("lambda", range(1, len(made) + 1) if choice.whole else turns(made), 11)
    events = [Event(bucket, f"e{point}") for point in points]
    for event, where, agent in sweep.deaths(points, events):
        answer = agent.answers(event.payload, event.request_id)
        assert answer["runs"][0]["output"] == ALONE, f"killed at {where}: the next run saw more than its own input"
        event.is_published(where, at_most=2)
        nothing_is_left(lab, where)
    assert unfinished(bucket) == []
    assert len(made) > 40, told(made)


def test_an_agent_that_is_killed_in_the_middle_of_a_multipart_upload_shows_no_part_of_it(
    lab: Lab, bucket: Bucket, choice: Choice
) -> None:
    """XF9: what a dead upload leaves is parts that no reader sees, of one upload a death; S3's own rule ends it (`UserBucket`)."""
    versioned(bucket)
    sweep = Sweep(lab, lab.function(SCRIPT, outputs=(Storage("s3", bucket.name, "out"),)), {})
    made = sweep.record(Event(bucket, "large"))
    script_ended = max(call.number for call in made if call.name == "execve")
    publishing = [point for point in turns(made) if point > script_ended]
    if choice.whole:
        publishing = [call.number for call in made if call.number > script_ended]
    points = choice.of("multipart", publishing, 3)
    events = [Event(bucket, f"large{point}") for point in points]
    for died, (event, where, agent) in enumerate(sweep.deaths(points, events), start=1):
        agent.answers(event.payload, event.request_id)
        event.is_published(where, at_most=2)
        event.forget()
        nothing_is_left(lab, where)
        assert len(unfinished(bucket)) <= died and set(unfinished(bucket)) <= {
            f"out/{event.name}/c" for event in events
        }


def test_a_hand_over_that_is_killed_at_any_call_ends_with_one_job(handing: Handing, choice: Choice) -> None:
    """TM9, TM10: mode batch, and Lambda's own retry of the request."""
    versioned(handing.bucket)
    sweep = Sweep(handing.lab, handing.function(SCRIPT, mode="batch"), handing.variables())
    made = sweep.record(Event(handing.bucket, "first"))
    points = choice.of("batch", range(1, len(made) + 1), 7)
    events = [Event(handing.bucket, f"e{point}") for point in points]
    for count, (event, where, agent) in enumerate(sweep.deaths(points, events), start=2):
        agent.answers(event.payload, event.request_id)
        jobs, ledger = [job["jobId"] for job in handing.batch.jobs], event.ledger()
        assert len(jobs) == count, f"killed at {where}: {len(jobs) - count + 1} jobs for one record"
        states = [entry["state"] for entry in ledger]
        assert states[0] == "delegated" and states.count("delegated") == 1, f"killed at {where}: {states}"
        assert ledger[0]["job_id"] == jobs[-1] and ledger[0]["attempt"] == 0, f"killed at {where}: {ledger[0]}"
        assert event.published() == {}
        nothing_is_left(handing.lab, where)
    assert len(made) > 5, told(made)


def test_a_run_that_is_killed_at_any_call_is_done_once_in_lambda_or_by_one_job(
    handing: Handing, choice: Choice
) -> None:
    """XF9, TM9: mode lambda-batch. The retry comes when the dead one's lease is over, as Lambda's does, and its job right after it."""
    versioned(handing.bucket)
    handing.batch.credentials_last_s = 400 * 24 * HOUR_S
    sweep = Sweep(handing.lab, handing.function(SCRIPT), handing.variables(), hourly=True)
    made = sweep.record(Event(handing.bucket, "first"))
    points = choice.of("lambda-batch", range(1, len(made) + 1) if choice.whole else turns(made), 6)
    events = [Event(handing.bucket, f"e{point}") for point in points]
    for event, where, agent in sweep.deaths(points, events):
        before = len(handing.batch.jobs)
        agent.answers(event.payload, event.request_id)
        submitted = handing.batch.jobs[before:]
        assert len(submitted) <= 1, f"killed at {where}: {len(submitted)} jobs for one record"
        for job in submitted:
            (variable,) = job["containerOverrides"]["environment"]
            ran = handing.job(sweep.function, variable["value"], job_id=job["jobId"], **sweep.wall.variables)
            assert ran.end() == 0, f"killed at {where}: {ran.log}"
        states = [str(entry["state"]) for entry in event.ledger()]
        # A publisher that died may have shown its outputs; it has not said so, and another writes the same bytes again.
        event.is_published(where, at_most=1 if "publishing" not in states[1:-1] or not submitted else 2)
        assert states[0] == "done" and states.count("done") == 1, f"killed at {where}: {states}"
        nothing_is_left(handing.lab, where)
    assert handing.batch.count("submitjob") == len(handing.batch.jobs) > 1


def test_a_job_that_is_killed_at_any_call_is_finished_by_its_next_attempt(handing: Handing, choice: Choice) -> None:
    """XF9, XF10: in Batch, whose next attempt does not wait for the lease of the dead one."""
    versioned(handing.bucket)
    function = handing.function(SCRIPT, mode="batch")
    _, made = _attempt(handing, function, Event(handing.bucket, "first"), None)
    points = choice.of("job", range(1, len(made) + 1) if choice.whole else turns(made), 5)
    for point in points:
        event = Event(handing.bucket, f"e{point}")
        where, _ = _attempt(handing, function, event, point)
        event.is_whole_or_absent(where)
        job = handing.job(function, attempt=2)
        assert job.end() == 0, f"killed at {where}: {job.log}"
        states = [str(entry["state"]) for entry in event.ledger()]
        assert states[0] == "done" and states.count("done") == 1, f"killed at {where}: {states}"
        event.is_published(where, at_most=2 if states.count("publishing") == 2 else 1)
        nothing_is_left(handing.lab, where)
    assert len(made) > 40, told(made)


def _attempt(handing: Handing, function: Path, event: Event, number: int | None) -> tuple[Call | None, list[Call]]:
    """The first attempt of a job for this event, killed at a call; where that was, and all calls."""
    handing.batch.jobs.clear()
    handing.handed_over(SCRIPT, event.payload)
    decide = let if number is None else kill_at(number)
    environment = handing.job_environment()
    with Traced(
        handing.lab.command(function), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, decide=decide
    ) as traced:
        assert traced.process.stdout is not None
        with traced.process.stdout as pipe:
            log = pipe.read().decode()
        code = traced.process.wait(PATIENCE_S)
    assert code == (-9 if traced.killed else 0), log
    return traced.killed, traced.made
