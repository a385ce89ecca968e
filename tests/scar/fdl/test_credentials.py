"""Credentials of a definition: from where they come, and that they are seen nowhere."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import pytest

from scar.errors import FdlError
from scar.fdl.load import Definition, parse
from scar.fdl.write import written
from scar.secret import Secret

TEXT = """\
functions:
  aws:
    - lambda:
        name: f
        container: {image: scratch, environment: {Variables: {LITERAL: "${env.HOST}"}}}
        output: [{storage_provider: minio.lab, path: bucket/out}]
  oscar:
    - c: {name: s, image: scratch, endpoint: "https://${env.HOST}", auth_user: me, auth_password: "${env.WORD}"}
storage_providers:
  minio:
    lab: {endpoint: "https://${env.HOST}:9000", access_key: "key-${env.WORD}", secret_key: "$${env.WORD} ${env.WORD}"}
"""


def read(**environ: str) -> Definition:
    return parse(TEXT, "f.yaml", Path("/nowhere"), environ=environ)


def test_variables_are_put_in_where_credentials_are_and_nowhere_else() -> None:
    """SE10"""
    definition = read(HOST="host.example", WORD="hunter2")
    (fn,), (service,) = definition.functions, definition.services
    ((name, provider),) = fn.storage_providers.named()
    assert (name, provider.url) == ("minio.lab", "https://host.example:9000")
    assert {key: value.reveal() for key, value in provider.credentials.items()} == {
        "access_key": "key-hunter2",
        "secret_key": "${env.WORD} hunter2",
    }
    assert service.oscar.endpoint == "https://host.example"
    assert fn.lambda_.container.environment == {"LITERAL": "${env.HOST}"}


def test_a_variable_that_is_not_set_is_a_problem_at_each_of_its_places() -> None:
    with pytest.raises(FdlError) as refused:
        read(HOST="host.example", WORD="")
    assert [(problem.line, problem.path) for problem in refused.value.problems] == [
        (8, "functions.oscar[0].c.auth_password"),
        (11, "storage_providers.minio.lab.access_key"),
        (11, "storage_providers.minio.lab.secret_key"),
    ]


def test_what_a_variable_holds_is_not_repeated_when_it_cannot_be() -> None:
    with pytest.raises(FdlError) as refused:
        read(HOST="hunter2 hunter2", WORD="w")
    assert "cannot be used here" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_credential_is_in_no_form_that_could_be_printed_or_written() -> None:
    """SE5"""
    definition = read(HOST="h", WORD="hunter2")
    shown = [repr(definition), str(definition), f"{definition}", repr(dataclasses.asdict(definition))]
    shown += [json.dumps(written(definition.functions)), repr(copy.deepcopy(definition))]
    assert not [text for text in shown if "hunter2" in text]
    secret = Secret("hunter2")
    assert (f"{secret}", f"{secret!r}", "%s" % secret) == ("Secret(…)",) * 3  # noqa: UP031
    for write in (json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            write(secret)
    assert secret == Secret("hunter2") != Secret("other")
    assert hash(secret) == hash(Secret("hunter2"))
    assert not hasattr(secret, "__dict__")


def test_a_variable_of_bytes_that_are_no_text_is_a_problem_at_its_place() -> None:
    with pytest.raises(FdlError, match="not UTF-8") as refused:
        read(HOST="h", WORD="a\udcff")
    assert "storage_providers.minio.lab.access_key" in [problem.path for problem in refused.value.problems]
