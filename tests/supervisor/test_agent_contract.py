"""The golden documents of schema 1 are read for ever, and what is written today equals them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faassupervisor.contract import (
    ContractError,
    Failure,
    ImageProcess,
    Reply,
    RootFilesystem,
    RootLayer,
    Run,
    Spec,
    Storage,
)

GOLDEN = Path(__file__).parents[1] / "contract" / "v1"

DOCUMENTS = {
    "spec": Spec(
        name="grayify",
        mode="lambda-batch",
        has_script=True,
        environment={"LEVEL": 'it\'s "quoted" $HOME'},
        inputs=(Storage("s3", "photos", "in"),),
        outputs=(Storage("s3", "photos", "out/gray", ("result",), (".png", ".jpg")), Storage("minio.lab", "copies")),
        timeout_threshold_s=15,
        log_level="DEBUG",
        image=ImageProcess(
            ("/usr/bin/convert",), ("--help",), {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}, "/work", "1000:1000"
        ),
    ),
    "spec-root": Spec(
        name="zipped",
        has_script=True,
        image=ImageProcess(command=("/bin/bash",), environment={"PATH": "/usr/bin:/bin"}),
        root=RootFilesystem(
            "sha256:" + "a" * 64,
            (RootLayer("sha256:" + "b" * 64, 28),),
            "s3://scar-state/images/zipped",
            1024,
            "/lib64/ld-linux-x86-64.so.2",
            "2.36",
        ),
    ),
    "reply": Reply(
        "8f507cfc-xmpl-4697-b07a-ac58fc914c95",
        (Run("in/red flower.jpg", 0, ("s3://photos/out/gray/result.png",), "done\n", 1.25), Run(None, 0)),
        ("'ObjectRemoved:Delete' creates no object",),
    ),
    "failure": Failure(
        "ScriptFailed",
        "script exited with code 3 (1 of 2 records failed)",
        3,
        ("line 1", "line 2"),
        (Run("in/a", 3, (), "line 1\nline 2\n", 0.5), Run("in/b", 0, ("s3://photos/out/b",), "", 0.25)),
        "8f507cfc-xmpl-4697-b07a-ac58fc914c95",
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_read_and_written_as_its_golden_one(name):
    golden = (GOLDEN / f"{name}.json").read_bytes()
    value = DOCUMENTS[name]
    assert type(value).from_json(golden) == value
    assert json.loads(value.to_json()) == json.loads(golden)


def test_the_least_spec_has_every_default():
    assert Spec.from_json((GOLDEN / "spec-least.json").read_bytes()) == Spec("f")


def test_lambdas_own_error_document_is_a_failure_too():
    failure = Failure.from_json((GOLDEN / "failure-of-lambda.json").read_bytes())
    assert (failure.kind, failure.exit_code, failure.runs) == ("Sandbox.Timedout", 1, ())


def test_a_newer_schema_is_refused_with_the_way_out():
    with pytest.raises(ContractError, match="schema 2 is newer"):
        Spec.from_json('{"schema": 2, "name": "f"}')
    with pytest.raises(ContractError, match="no schema number"):
        Spec.from_json('{"name": "f"}')
