"""The example that finishes in Lambda for a small input and in Batch for a large one, and the pages that show it."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from tests.e2e.batch.world import ENDED
from tests.e2e.conftest import ROOT, Local, until
from tests.e2e.test_docs import blocks

EXAMPLE = ROOT / "examples" / "short-or-long"
BUCKET, NAME = "scar-short-or-long", "short-or-long"


def report(text: Path) -> str:
    """What the example makes of a file."""
    lines = enumerate(text.read_text().splitlines(), 1)
    return "".join(f"{number:3} {hashlib.sha256(line.encode()).hexdigest()[:16]} {line}\n" for number, line in lines)


def session(page: str) -> list[list[str]]:
    """What a page shows of the example, word by word."""
    (block,) = [block for block in blocks(ROOT / page, "sh") if "scar --local" in block and NAME in block]
    return [shlex.split(line.partition("#")[0]) for line in block.splitlines()]


def test_the_example_works_as_the_pages_show(own_local: Local) -> None:
    """Every line is typed in its order; `JOB` is what `scar jobs` told."""
    lines = session("docs/how-to/batch.md")
    assert session("README.md") == lines[:-1]  # without the removal
    assert session("examples/short-or-long/README.md") == lines
    (own_local.folder / "examples").symlink_to(ROOT / "examples")
    job = ""
    for words in lines:
        assert words[:2] == ["scar", "--local"]
        if "jobs" in words:
            until("the short one", lambda: own_local.keys(BUCKET, "out/short") == ["out/short.report.txt"])
            until("the job", lambda: own_local.must("jobs", "-n", NAME, "-o", "json").json)
        if "get" in words:
            until("both", lambda: len(own_local.keys(BUCKET, "out/")) == 2)
        done = own_local.must(*[job if word == "JOB" else word for word in words[2:]])
        if "jobs" in words:
            (job,) = [one["jobId"] for one in jobs(own_local)]
            assert job in done.out
        if "log" in words:
            order = [done.out.index(part) for part in ("line 1 of 20", "line 20 of 20", "SUCCEEDED")]
            assert order == sorted(order)
    assert report(EXAMPLE / "short.txt") in (EXAMPLE / "README.md").read_text()
    for name in ("short", "long"):
        made = own_local.folder / "results" / "out" / f"{name}.report.txt"
        assert made.read_text() == report(EXAMPLE / f"{name}.txt")


def jobs(local: Local) -> list[dict[str, str]]:
    batch = local.client("batch")
    statuses = ("RUNNABLE", "STARTING", "RUNNING", *ENDED)
    return [
        job for one in statuses for job in batch.list_jobs(jobQueue=f"scar-{NAME}", jobStatus=one)["jobSummaryList"]
    ]
