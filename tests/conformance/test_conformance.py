"""The same image, script and command give the same result, whatever runs them."""

from __future__ import annotations

import pytest

from tests.conformance.cases import DIRECT, IMAGES, WORDS, Case, Direct, object_event
from tests.conformance.runtimes import BUCKET, Lambda, Runtime


@pytest.mark.parametrize("case", IMAGES, ids=lambda case: case.name)
def test_an_image_gives_the_same_result_everywhere(runtime: Runtime, case: Case) -> None:
    ran = runtime.run(case.function, object_event(BUCKET))
    if case.outside_lambda and isinstance(runtime, Lambda):
        assert ran.kind is not None, case.outside_lambda
        return
    assert (ran.exit_code, ran.kind, ran.message) == (0, None, ""), ran.output
    seen = ran.facts
    if case.path is None:
        assert seen["PATH"]  # each runtime has one of its own
        seen["PATH"] = "its own"
    assert seen == case.expected | {"user": runtime.user(case.user)}
    assert {name: content for name, content in ran.published.items() if name != "facts"} == {
        "shout": WORDS.upper(),
        **case.more,
    }
    assert ran.output.endswith("the probe ran\n")  # Lambda sets LANG, and perl warns where the image lacks that locale


@pytest.mark.parametrize("run", DIRECT, ids=lambda run: run.name)
def test_a_run_ends_the_same_everywhere(runtime: Runtime, run: Direct) -> None:
    (case,) = (case for case in IMAGES if case.name == run.image)
    ran = runtime.run(case.function, run.event)
    assert (ran.exit_code, ran.kind) == (run.exit_code, run.kind if run.exit_code else None), ran.message
    assert run.says in ran.message + ran.output
    assert ran.published == run.published
