"""One server before the endpoints of an AWS in this process, for a module's tests; `http_gate` says what it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from http_gate import ACCOUNT, REGION, Answers, Gate, echo
from moto import mock_aws
from moto.backends import get_backend

from scar.local.http import api_hooks, hooks
from scar.local.http.door import Bounds, Endpoints
from scar.local.server import Server


@pytest.fixture(scope="module")
def _served() -> Iterator[tuple[Server, Answers]]:
    answers = Answers()
    bounds = Bounds(api_limit_s=0.3, body_s=0.5, held_bytes=64 << 20, at_once=8)
    server = Server(0, Endpoints(answers, bounds=bounds))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    with mock_aws():
        undo = hooks.install(lambda: f"http://127.0.0.1:{server.port}"), api_hooks.install()
        thread.start()
        yield server, answers
        server.shutdown()
        server.end()
        for take_away in undo:
            take_away()


@pytest.fixture(scope="module")
def _clients(_served: tuple[Server, Answers]) -> dict[str, Any]:
    session = boto3.Session("testing", "testing", region_name=REGION)
    return {name: session.client(name) for name in ("apigateway", "lambda", "iam")}


@pytest.fixture
def gate(_served: tuple[Server, Answers], _clients: dict[str, Any]) -> Iterator[Gate]:
    server, answers = _served
    answers.reply, answers.events = echo, []
    answers.ended.clear()
    role = _clients["iam"].create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/cow@sha256:{'0' * 64}"
    _clients["lambda"].create_function(
        FunctionName="cow", Role=role, PackageType="Image", Code={"ImageUri": image}, Timeout=900
    )
    yield Gate(server.port, answers, _clients["apigateway"], _clients["lambda"])
    for service in ("apigateway", "lambda", "iam"):
        get_backend(service).reset()
