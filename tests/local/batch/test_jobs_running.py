"""A job runs: what its program sees, what becomes of its output and of its exit code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local.batch.job_bench import JobLab
from tests.local.functions.lambda_bench import Local, reset_moto


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobLab]:
    folder = tmp_path_factory.mktemp("jobs")
    with Local(folder / "local") as local:
        made = JobLab(local, folder)
        yield made
        made.close()
    reset_moto()


def test_a_job_runs_to_its_end_and_its_output_is_in_the_log(lab: JobLab) -> None:
    job = lab.run("hello", "echo hello; echo world >&2")
    assert job["status"] == "SUCCEEDED", job
    assert lab.output(job) == ["hello", "world"]
    assert job["container"]["exitCode"] == 0
    assert job["container"]["logStreamName"].startswith("hello/default/")
