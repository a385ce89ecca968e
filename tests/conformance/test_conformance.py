"""The same image, script and command give the same result, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.conformance.cases import DIRECT, IMAGES, WORDS, Case, Direct, object_event
from tests.conformance.runtimes import BUCKET, Lambda, Runtime

# Runtimes (conftest.RUNTIMES) that run everything; the others differ from one of these in little, and run what that can touch.
EVERYTHING = ("lambda", "zip", "sandbox", "podman")
VARIANTS = ("podman_read_only", "podman_as_somebody", "lambda_on_proot")
TOUCHED = (
    "debian12", "debian11_old_glibc", "python", "musl", "busybox", "scratch_static", "distroless", "entrypoint_and_cmd",
    "user_by_name", "environment", "nothing_writable", "neither_tmp_nor_etc",
)  # fmt: skip


def on(runs: Iterable[Case] | Iterable[Direct], argument: str, *, variants: Iterable[str] = ()) -> Callable[..., Any]:
    """Every run in every runtime, one runtime after the other; in `VARIANTS` only the runs of these names."""
    every = [(name, run) for name in (*EVERYTHING, *VARIANTS) for run in runs]
    pairs = [(name, run) for name, run in every if name in EVERYTHING or run.name in variants]
    pairs = [(name, run) for name, run in pairs if name != "zip" or not image_of(run).not_in_zip]
    ids = [f"{name}-{run.name}" for name, run in pairs]
    return pytest.mark.parametrize(("runtime", argument), pairs, ids=ids, indirect=["runtime"], scope="session")


def image_of(run: Case | Direct) -> Case:
    return run if isinstance(run, Case) else next(case for case in IMAGES if case.name == run.image)


@on(IMAGES, "case", variants=TOUCHED)
def test_an_image_gives_the_same_result_everywhere(runtime: Runtime, case: Case) -> None:
    ran = runtime.run(case, object_event(BUCKET))
    if case.outside_lambda and isinstance(runtime, Lambda):
        assert ran.kind is not None, case.outside_lambda
        return
    assert (ran.exit_code, ran.kind, ran.message) == (0, None, ""), ran.output
    seen = ran.facts
    if case.path is None:
        assert seen["PATH"]  # each runtime has one of its own
        seen["PATH"] = "its own"
    assert seen == runtime.expected(case)
    assert {name: content for name, content in ran.published.items() if name != "facts"} == {
        "shout": WORDS.upper(),
        **case.more,
    }
    assert ran.output.endswith("the probe ran\n")  # Lambda sets LANG, and perl warns where the image lacks that locale


@on(DIRECT, "run")
def test_a_run_ends_the_same_everywhere(runtime: Runtime, run: Direct) -> None:
    ran = runtime.run(image_of(run), run.event)
    assert (ran.exit_code, ran.kind) == (run.exit_code, run.kind if run.exit_code else None), ran.message
    assert run.says in ran.message + ran.output
    assert ran.published == run.published
