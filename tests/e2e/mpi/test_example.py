"""The example of a program with MPI does what its page shows: in Lambda, on one machine and on three, by one script in one image."""

from __future__ import annotations

import shlex
import subprocess

from tests.e2e.conftest import Local, until
from tests.e2e.mpi import images
from tests.e2e.mpi.gangs import hosts
from tests.e2e.test_docs import blocks

SIZES = {"small": 1, "medium": 2, "large": 3}


def test_the_example_works_as_its_page_shows(local: Local) -> None:
    """T1-19, T1-20, T1-21, MP1, MP7: every line is typed in its order; `JOB` is what `scar jobs` told.

    From `scar put` to the result, nothing is between them: the allreduce over three nodes is checked by the program itself, and here.
    """
    subprocess.run(
        ["podman", "tag", images.stored(images.OPEN_MPI).partition(":")[2], "localhost/scar-mpi:latest"], check=True
    )
    page = images.EXAMPLE / "README.md"
    lines = [shlex.split(line.partition("#")[0]) for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines[0] == images.command_of_the_page()  # which has built the image
    link = local.folder / "examples"
    if not link.exists():
        link.symlink_to(images.EXAMPLE.parent)
    job, said = "", ""
    for words in lines[1:]:
        assert words[:2] == ["scar", "--local"]
        if words[2] == "jobs" and not job:
            until("the job", lambda: local.must("jobs", "-n", "mpi-large", "-o", "json").json)
            (job,) = [one["id"] for one in local.must("jobs", "-n", "mpi-large", "-o", "json").json]
        if words[2] == "get":
            until("all results", lambda: len(local.keys("scar-mpi", "results/")) == len(SIZES))
        done = local.must(*[job if word == "JOB" else word for word in words[2:]])
        if words[2:4] == ["log", "JOB"]:
            assert ("right: 3 ranks" in done.out) == ("--node" not in words)
            assert '"joined the gang"' in done.out or "--node" not in words
        if words[2] == "run":
            said = done.out
    where = {}
    for name, ranks in SIZES.items():
        result = (local.folder / "results" / "results" / f"{name}.result.txt").read_text().splitlines()
        assert f"ranks = {ranks}" in result
        where[name] = hosts(result)
        assert len(where[name]) == ranks
    names = {name: len(set(found)) for name, found in where.items()}
    assert names == {"small": 1, "medium": 1, "large": 3}  # distinct host names only where there are several machines
    told = hosts([line for line in said.splitlines() if line.startswith("hello from")])
    assert len(told) == len(set(told)) == 3
    shown = blocks(page, "text")[0].splitlines()
    kept = (local.folder / "results" / "results" / "large.result.txt").read_text().splitlines()
    assert [line.partition(" on ")[0] for line in kept] == [line.partition(" on ")[0] for line in shown]
