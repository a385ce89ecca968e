"""Machines that are taken away in the middle of jobs: one publication, and every attempt that was lost is counted."""

from __future__ import annotations

import time

from tests.chaos.choice import Choice
from tests.chaos.storming import WITHIN_S, Deployed, wait_for
from tests.e2e.batch.test_jobs import reclaim
from tests.e2e.batch.world import ENDED

ATTEMPTS = 3


def test_a_job_whose_machines_are_lost_at_any_moments_publishes_once(deployed: Deployed, choice: Choice) -> None:
    """BA7, BA8: lost none, one or two times, the next attempt publishes; lost three times, the job fails as a lost host and nothing is there."""
    world, story = deployed.world, f"--seed {choice.seed}"
    drawn = choice.random("spot")
    times = list(range(ATTEMPTS + 1)) * 8 if choice.whole else [1, ATTEMPTS]
    for number, wanted in enumerate(times):
        name = f"spot-{number}"
        key = world.put("heavy", name, text=name, sleep=1.5)
        lost = 0
        while lost < wanted and (job := running(deployed, key, lost)) is not None:
            time.sleep(drawn.uniform(0, 1.2))
            reclaim(world, job)
            lost += 1
        ended = world.job("heavy", key, WITHIN_S)
        where = f"{name}, lost {lost} times, {story}: {ended['statusReason']} {ended['attempts']}"
        reasons = [attempt.get("statusReason", "") for attempt in ended["attempts"]]
        hosts = [reason for reason in reasons if reason.startswith("Host EC2")]
        assert len(hosts) in {lost, lost - 1}, where  # the last one may have ended by itself just before
        if len(hosts) == ATTEMPTS:
            assert (ended["status"], world.published("heavy", name)) == ("FAILED", 0), where
        else:
            assert (ended["status"], len(reasons)) == ("SUCCEEDED", len(hosts) + 1), where
            assert (world.output("heavy", name), world.published("heavy", name)) == (name, 1), where


def running(deployed: Deployed, key: str, attempts: int) -> str | None:
    """The id of the key's job once its attempt after so many runs; None when it has ended."""
    found: list[str | None] = []

    def look() -> bool:
        for job in deployed.world.jobs("heavy", key):
            if job["status"] in ENDED:
                found.append(None)
            elif job["status"] == "RUNNING" and len(job["attempts"]) == attempts:
                found.append(str(job["jobId"]))
        return bool(found)

    wait_for(f"a job of {key}", look, lambda: deployed.storm.story, WITHIN_S)
    return found[0]
