"""Why is a run, a job or a function stuck or failed, and what to do? Pure: facts in, findings out.

RULES is the rule base: a line of the table for each, and a function in `explaining_jobs` or `explaining_runs`. A rule looks at the facts and answers
what is so, why, and what to do next, or None. Gathering the facts is `explaining_gathered`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from scar.aws import explaining_jobs as jobs
from scar.aws import explaining_runs as runs
from scar.aws.explaining_terms import Answer, Facts, Finding

Rule = Callable[[Facts], Answer]


def findings(facts: Facts) -> tuple[Finding, ...]:
    """What the rules find, in the order of the table. A rule that is only a last resort is asked when no other has found anything."""
    found = tuple(_asked(name, rule, facts) for name, rule in RULES.items())
    sure = tuple(finding for finding in found if finding is not None)
    if sure:
        return sure
    rest = tuple(_asked(name, rule, facts) for name, rule in LAST_RESORTS.items())
    return tuple(finding for finding in rest if finding is not None)[:1]


def _asked(name: str, rule: Rule, facts: Facts) -> Finding | None:
    answer = rule(facts)
    return None if answer is None else Finding(name, answer[0], answer[1], tuple(answer[2]))


def script_failed(facts: Facts) -> Answer:
    """The plainest failure: the script's own."""
    code = facts.job.exit_code if facts.failed and facts.job else facts.run.exit_code if facts.run else None
    if not code or code in {124, 137}:
        return None
    lines = facts.lines or (facts.run.last_lines if facts.run else ())
    which = facts.id if facts.failed else facts.run.request_id if facts.run else "ID"
    return (
        f"the script ended with exit code {code}",
        "its last lines:\n" + "\n".join(f"  | {line}" for line in lines[-10:]) if lines else "it wrote nothing",
        (f"scar log -n {facts.name} -ri {which}",),
    )


def failed_otherwise(facts: Facts) -> Answer:
    if facts.failed and facts.job is not None:
        return "the job failed", facts.job.why or "Batch gives no reason", (f"scar jobs {facts.job.id}",)
    if facts.run is not None and facts.run.failures:
        return "the run failed", facts.run.failures[-1][1], (f"scar log -n {facts.name} -ri {facts.run.request_id}",)
    return None


def waits_its_turn(facts: Facts) -> Answer:
    if not facts.waits or facts.job is None:
        return None
    return (
        f"the job is {facts.job.status} and nothing keeps it from starting: it waits for its turn or for a machine",
        facts.job.reason or "a machine takes some minutes to start, and others may be before it",
        (f"scar wait {facts.job.id}", f"scar jobs -n {facts.name}"),
    )


RULES: Final[dict[str, Rule]] = {
    "queue-disabled": jobs.queue_disabled,
    "queue-invalid": jobs.queue_invalid,
    "environment-invalid": jobs.environment_invalid,
    "environment-disabled": jobs.environment_disabled,
    "no-subnet": jobs.no_subnet,
    "too-many-vcpus": jobs.too_many_vcpus,
    "no-machine-large-enough": jobs.no_machine_large_enough,
    "no-capacity": jobs.no_capacity,
    "image-not-found": jobs.image_not_found,
    "container-not-prepared": jobs.not_started_by_ecs,
    "job-ended-by-hand": jobs.job_ended_by_hand,
    "job-timed-out": jobs.job_timed_out,
    "job-out-of-memory": jobs.job_out_of_memory,
    "machine-lost": jobs.machine_lost,
    "node-lost": jobs.node_lost,
    "checksum-mismatch": runs.checksum_mismatch,
    "spill-missing": runs.spill_missing,
    "loop-stopped": runs.loop_stopped,
    "access-denied": runs.access_denied,
    "lambda-timed-out": runs.lambda_timed_out,
    "lambda-out-of-memory": runs.lambda_out_of_memory,
    "throttled": runs.throttled,
    "function-not-ready": runs.function_not_ready,
    "bucket-absent": runs.bucket_absent,
    "notification-missing": runs.notification_missing,
    "permission-missing": runs.permission_missing,
    "folder-marker": runs.folder_marker,
    "filter-does-not-match": runs.filter_does_not_match,
    "object-absent": runs.object_absent,
    "record-left-out": runs.skipped,
}


# Asked when no other rule has found anything.
LAST_RESORTS: Final[dict[str, Rule]] = {
    "script-failed": script_failed,
    "failed": failed_otherwise,
    "waits-its-turn": waits_its_turn,
}
