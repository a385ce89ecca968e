"""The same image, script and command give the same result, whatever runs them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from scar.errors import ScarError
from scar.package.zips.runtime import function_zip
from tests.conformance.cases import (
    DIRECT,
    FOREIGN_IMAGE,
    HERE,
    IMAGES,
    WORDS,
    ZIPS_HERE,
    Case,
    Direct,
    Parts,
    object_event,
)
from tests.conformance.runtimes import AS_ROOT, BUCKET, Emulated, Lambda, Ran, Runtime, World

# Runtimes (conftest.RUNTIMES) that run everything; the others differ from one of these in little, and run what that can touch.
EVERYTHING = ("lambda", "zip", "podman")
VARIANTS = {
    "sandbox": (
        "debian12",
        "debian11_old_glibc",
        "debian13_new_glibc",
        "python",
        "musl",
        "busybox",
        "scratch_static",
        "distroless",
        "entrypoint_and_cmd",
        "user_by_name",
        "workdir",
        "environment",
        "nothing_writable",
        "neither_tmp_nor_etc",
        "exit_3",
        "killed",
        "no_interpreter",
        "interpreter_that_cannot_run",
        "half_an_output",
    ),
    "podman_read_only": (
        "debian12",
        "scratch_static",
        "distroless",
        "user_by_name",
        "nothing_writable",
        "neither_tmp_nor_etc",
    ),
    "podman_as_somebody": ("debian11_old_glibc", "scratch_static", "musl", "user_by_name", "opt_is_closed"),
    "lambda_on_proot": ("debian11_old_glibc", "musl", "busybox", "entrypoint_and_cmd", "environment"),
}


def on(runs: Iterable[Case] | Iterable[Direct], argument: str) -> Callable[..., Any]:
    """Every run in every runtime where it is possible, one runtime after the other."""
    every = [(name, run) for name in (*EVERYTHING, *VARIANTS) for run in runs]
    pairs = [(name, run) for name, run in every if name not in VARIANTS or run.name in VARIANTS[name]]
    pairs = [(name, run) for name, run in pairs if image_of(run) in (ZIPS_HERE if name == "zip" else HERE)]
    ids = [f"{name}-{run.name}" for name, run in pairs]
    return pytest.mark.parametrize(("runtime", argument), pairs, ids=ids, indirect=["runtime"], scope="session")


def image_of(run: Case | Direct) -> Case:
    return run if isinstance(run, Case) else next(case for case in IMAGES if case.name == run.image)


@on(IMAGES, "case")
def test_an_image_gives_the_same_result_everywhere(runtime: Runtime, case: Case) -> None:
    ran = runtime.run(case, object_event(BUCKET))
    # Where an ordinary user runs the local AWS, every file of the image is the function's own.
    if case.outside_lambda and isinstance(runtime, Lambda) and AS_ROOT:
        assert ran.kind is not None, case.outside_lambda
        return
    expect_the_result(ran, case, runtime.expected(case))


def expect_the_result(ran: Ran, case: Case, expected: Mapping[str, str]) -> None:
    assert (ran.exit_code, ran.kind, ran.message) == (0, None, ""), ran.output
    seen = ran.facts
    if case.path is None:
        assert seen["PATH"]  # each runtime has one of its own
        seen["PATH"] = "its own"
    assert seen == expected
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


@pytest.mark.parametrize("case", [case for case in HERE if case.not_in_zip], ids=lambda case: case.name)
def test_what_the_zip_runtime_cannot_hold_is_refused_before_anything_is_made(world: World, case: Case) -> None:
    body = case.definition(case.zip_function, world.files[case.name], BUCKET, runtime="python3.13")
    fn = world.read("refused.yaml", [body])[0]
    with pytest.raises(ScarError) as refused:
        function_zip(fn, cache=world.cache)
    assert [word for word in case.not_in_zip if word not in str(refused.value)] == []
    assert "runtime: image" in str(refused.value)


def test_an_image_for_another_processor_gives_the_same_result(world: World, parts: Parts) -> None:
    emulator = shutil.which("qemu-aarch64-static")
    if emulator is None or shutil.which("proot") is None:
        pytest.skip("qemu-aarch64-static and proot are not both installed; the gate installs them")
    case = FOREIGN_IMAGE
    file = case.write(case.image(parts), world.local.folder / case.name)
    (world.local.folder / f"{case.name}.script").write_text(str(case.script))
    body = case.definition(case.function, file, BUCKET, architectures=["arm64"])
    world.functions[case.function] = world.read("foreign.yaml", [body])[0]
    runtime = Emulated(world, emulator)
    expect_the_result(runtime.run(case, object_event(BUCKET)), case, runtime.expected(case))
