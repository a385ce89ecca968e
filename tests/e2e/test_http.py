"""A function behind HTTP, as its callers have it: plain curl, `scar invoke`, a container that answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Local, until

SCRIPT = """#!/usr/bin/env python3
import os, sys
data = open(os.environ["INPUT_FILE_PATH"], "rb").read()
if data.startswith(b"exit "):
    sys.exit(int(data[5:]))
if not data:
    print(os.environ["SCAR_HTTP_METHOD"], os.environ["SCAR_HTTP_PATH"])
else:
    open(os.environ["TMP_OUTPUT_DIR"] + "/out.bin", "wb").write(data[::-1])
"""
PHOTO = bytes(range(256)) * 1200 + b"\0\r\n"


def _define(local: Local, auth: str) -> Any:
    body = {
        "lambda": {
            "name": "web",
            "memory": 512,
            "timeout": 20,
            "init_script": "web.py",
            "container": {"image": "scratch"},
        },
        "api_gateway": {"name": "web", "auth": auth},
        "function_url": {"auth": "iam"},
    }
    (local.folder / "web.yaml").write_text(json.dumps({"functions": {"aws": [body]}}))
    return local.must("init", "-f", "web.yaml", "-o", "json")


@pytest.fixture(scope="module")
def web(shared_local: Local) -> Local:
    (shared_local.folder / "web.py").write_text(SCRIPT)
    (shared_local.folder / "photo").write_bytes(PHOTO)
    (shared_local.folder / "bad").write_bytes(b"exit 7")
    return shared_local


def curl(local: Local, *words: str) -> tuple[int, bytes]:
    """The status, and the body."""
    done = subprocess.run(
        ["curl", "-s", "-o", "-", "-w", "\n%{http_code}", *words],
        capture_output=True,
        cwd=local.folder,
        timeout=60,
        check=True,
    )
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def test_curl_and_scar_invoke_reach_a_function_that_is_open_and_one_that_is_not(web: Local) -> None:
    """AP1, AP3, AP4, AP5, AP7: one function with an open API and a closed URL, then with an API key."""
    made = _define(web, "none")
    assert "web: rest api web: public: anyone on the internet can run it" in made.err
    (api, url) = (way["url"] for way in made.json["functions"][0]["endpoints"])

    assert curl(web, "--data-binary", "@photo", f"{api}/any/path") == (200, PHOTO[::-1])
    assert curl(web, f"{api}/x%20y?a=1") == (200, b"GET /x%20y\n")
    assert curl(web, "--data-binary", "@photo", f"{url}/")[0] == 403
    signed = ("--aws-sigv4", "aws:amz:us-east-1:lambda", "--user", "local:local")
    assert curl(web, *signed, "--data-binary", "@photo", f"{url}/") == (200, PHOTO[::-1])
    status, body = curl(web, "--data-binary", "@bad", api)
    assert (status, json.loads(body)["exit_code"], b"Traceback" in body) == (500, 7, False)

    web.must("invoke", "-n", "web", "-db", "photo", "-o", "out")
    assert (web.folder / "out").read_bytes() == PHOTO[::-1]
    failed = web.scar("invoke", "-n", "web", "-db", "bad", "-o", "kept")
    assert (failed.code, (web.folder / "kept").exists()) == (7, False)
    found = re.search(r"log -n web -ri (\S+)", failed.err)
    assert found is not None
    assert '"exit_code": 7' in web.must("log", "-n", "web", "-ri", found[1]).out

    request_id = web.must("invoke", "-n", "web", "-db", "photo", "-a").out.strip()
    assert re.fullmatch(r"[0-9a-f-]{36}", request_id)
    until(
        "the run that nobody waited for", lambda: "END RequestId" in web.scar("log", "-n", "web", "-ri", request_id).out
    )

    _define(web, "api_key")
    assert curl(web, api) == (403, b'{"message":"Forbidden"}')
    keyed = web.must("invoke", "-n", "web", "-jd", '{"a": 1}')
    (value,) = (key["value"] for key in web.client("apigateway").get_api_keys(includeValues=True)["items"])
    assert (keyed.out, value in keyed.err) == ('}1 :"a"{', False)
    assert curl(web, "-H", f"x-api-key: {value}", api)[0] == 200

    web.must("local", "down")  # endpoints, keys and what they opened are there after it
    assert web.must("invoke", "-n", "web", "-p", '{"b": [1, 2]}').out == "GET /\n"
    web.must("rm", "-n", "web")
    assert [curl(web, where)[0] for where in (api, f"{url}/")] == [403, 403]
    assert web.client("apigateway").get_rest_apis()["items"] == []
    assert web.client("apigateway").get_usage_plans()["items"] == []


def test_what_cannot_be_asked_is_said_before_anything_is_sent(web: Local) -> None:
    """AP3, and whoever has no endpoint: no request leaves this machine for any of these."""
    large = web.folder / "large"
    with large.open("wb") as file:
        os.truncate(file.fileno(), 5 << 20)
    for words, code, said in (
        (("-n", "nobody"), 3, "no function"),
        (("-n", "web", "-db", "large"), 5, "grows by a third"),
        (("-n", "web", "-db", "absent"), 3, "no such file"),
        (("-n", "web", "-jd", "{"), 2, "not JSON"),
        (("-n", "web", "-p", "[1]"), 2, "no JSON object"),
        (("-n", "web", "--path", "x"), 2, "begins with /"),
        (("-n", "web", "--header", "no header"), 2, "is no header"),
    ):
        done = web.scar("invoke", *words)
        assert (done.code, said in done.err) == (code, True), done.err
    assert not Path(large.parent / "out2").exists()
