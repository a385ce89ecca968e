"""What becomes of a zip function's code on disk, and which engines run it: local AWSes of their own."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lambda_bench import Local
from packages import code, layer, member, refusal
from packages import make_zip as make

from scar.local.functions.managed import make_runtime
from scar.local.sandbox import Choice
from scar.local.sandbox.containers import Podman
from scar.local.sandbox.host import Host
from scar.local.sandbox.namespaces import Namespaces
from scar.local.sandbox.proot import PRoot

AS_ROOT = os.geteuid() == 0


def test_code_is_unpacked_once_and_removed_when_nothing_refers_to_it(make_local: Callable[..., Local]) -> None:
    local = make_local()
    make(local, "one")
    make(local, "two")
    assert len(list(local.folder.glob("functions/code/unzipped/*/complete.json"))) == 1
    assert local.invoke("one", 1)["body"] == 1
    local.lambda_.delete_function(FunctionName="one")
    local.functions.code.collect(grace_s=0)
    assert local.invoke("two", 2)["body"] == 2
    local.lambda_.delete_function(FunctionName="two")
    local.functions.stop()  # what ran held it
    local.functions.code.collect(grace_s=0)
    assert list(local.folder.glob("functions/code/unzipped/*/complete.json")) == []


def test_no_bytes_of_code_are_kept_in_memory_and_those_of_an_earlier_release_are_taken_over(
    make_local: Callable[..., Local],
) -> None:
    from moto.awslambda.models import lambda_backends

    local = make_local()
    make(local, "lean")
    function = lambda_backends["123456789012"]["us-east-1"].get_function("lean")
    assert function.code_bytes == b""
    assert "ZipFile" not in function.code
    older = code("def handler(e, c): return 'older'\n")
    function.code_bytes = older
    function.code_sha_256 = base64.b64encode(hashlib.sha256(older).digest()).decode()
    local.functions.stop()
    again = make_local()
    assert again.invoke("lean")["body"] == "older"
    assert function.code_bytes == b""


ENGINES: dict[str, Callable[[Path], Any]] = {
    "user": lambda scratch: Namespaces(scratch, variants=("user",)),
    "proot": PRoot,
    **({"podman": Podman} if AS_ROOT else {"bwrap": lambda scratch: Namespaces(scratch, variants=("bwrap",))}),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_with_a_view_of_its_own_runs_zip_functions(
    make_local: Callable[..., Local], engine: str, tmp_path: Path
) -> None:
    chosen = ENGINES[engine](tmp_path / "scratch")
    local = make_local(engine=lambda: Choice(chosen))
    tool = layer(local, "tool", member("python/tool.py", "name = 'tool'"))
    text = "import os, boto3, tool\ndef handler(e, c): return [e, os.getcwd(), os.path.exists('/root/.bashrc'), tool.name]\n"
    make(local, f"on-{engine}", code(text), Layers=[tool], MemorySize=512)
    assert local.invoke(f"on-{engine}", 1)["body"] == [1, "/var/task", False, "tool"]


def test_the_bare_host_cannot_and_says_so(make_local: Callable[..., Local]) -> None:
    local = make_local(engine=lambda: Choice(Host(Path("/tmp"))))
    make(local, "bare")
    kind, message = refusal(lambda: local.invoke("bare"))
    assert kind == "InvalidRuntimeException"
    assert "the sandbox engine host cannot run" in message


def test_the_folders_are_made_once_for_a_python_and_old_ones_go(tmp_path: Path) -> None:
    (tmp_path / "of-an-older-release/etc").mkdir(parents=True)
    first, second = make_runtime(tmp_path), make_runtime(tmp_path)
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == [first.root.name]
    assert first.argv({}) == (first.python, "/var/runtime/bootstrap.py")
    assert first.argv({"AWS_LAMBDA_EXEC_WRAPPER": "/w"})[0] == "/w"
