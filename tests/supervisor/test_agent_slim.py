"""What the agent does not import, and what it does not ask, is missed by nobody."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from faassupervisor.storage.s3 import CONNECTIONS
from tests.supervisor.conftest import PACKAGE
from tests.supervisor.faults import FaultyS3
from tests.support.certificates import Authority

KIB = 1024
CLIENTS = """
from faassupervisor import slim
slim.install()
from faassupervisor.aws import Aws
aws = Aws({"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
s3, batch = aws.s3_for_files(4), aws.batch()
told = {
    "imported": sorted({"botocore.docs.service", "html.parser", "importlib.metadata", "urllib3.http2.connection"} & set(sys.modules)),
    "pages": s3.get_paginator("list_objects_v2").__class__.__name__,
    "waiter": s3.get_waiter("object_exists").name,
    "help": [s3.put_object.__doc__, s3.get_paginator.__doc__ is not None],
    "operation": s3.meta.service_model.operation_model("PutObject").name,
    "batch": batch.meta.service_model.service_name,
}
"""
OVER_TLS = """
from faassupervisor import slim
if sys.argv[3] == "slim":
    slim.install()
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
session = URLLib3Session(verify=sys.argv[2])
told = [session.send(AWSRequest("GET", sys.argv[1]).prepare()).text for _ in range(2)]
"""


def ran(program: str, *arguments: str) -> Any:
    """What a program of the agent's Python found out, in a process without anything imported."""
    whole = f"import json, sys\nsys.path.insert(0, {str(PACKAGE)!r})\n{program}\njson.dump(told, sys.stdout)"
    done = subprocess.run(
        [sys.executable, "-c", whole, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_clients_are_whole_though_their_descriptions_are_not_imported() -> None:
    assert ran(CLIENTS) == {
        "imported": [],
        "pages": "S3.Paginator.ListObjectsV2",
        "waiter": "ObjectExists",
        "help": ["", True],
        "operation": "PutObject",
        "batch": "batch",
    }


def test_after_botocore_was_imported_nothing_of_it_is_replaced() -> None:
    program = "import botocore.session\nfrom faassupervisor import slim\nslim.install()\n"
    told = "import botocore.docs.docstring as d\ntold = [d.__file__.endswith('docstring.py'), d.WaiterDocstring.__module__]"
    assert ran(program + told) == [True, "botocore.docs.docstring"]


def test_a_connection_over_tls_is_as_it_is_without(tmp_path: Path) -> None:
    """What urllib3 asks about HTTP/2 is there."""
    authority = Authority(tmp_path)
    pair = authority.certify("127.0.0.1", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hello)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"https://127.0.0.1:{server.server_port}/"
        answers = [ran(OVER_TLS, url, str(authority.certificate), how) for how in ("slim", "whole")]
    finally:
        server.shutdown()
        server.server_close()
    assert answers == [["hello", "hello"]] * 2


class _Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        pass


def test_a_small_output_is_sent_without_asking_first_and_a_large_one_asks(lab, bucket, out) -> None:
    """For a small file the question takes as long as the file."""
    script = f'head -c {256 * KIB} /dev/zero > "$TMP_OUTPUT_DIR/small"; head -c {256 * KIB + 1} /dev/zero > "$TMP_OUTPUT_DIR/large"; : > "$TMP_OUTPUT_DIR/empty"'
    with FaultyS3(bucket.endpoint) as s3:
        agent = lab.agent(script, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        answer = agent.invoke({"Records": [bucket.put("in/a", b"x")]})
    assert answer.error_type is None, answer.body
    asked = {
        request.path.split("?")[0].rsplit("/", 1)[-1]: request.headers.get("expect")
        for request in s3.requests
        if request.method == "PUT"
    }
    assert asked == {"small": None, "large": "100-continue", "empty": None}
    sizes = {name: len(bucket.get(f"out/{name}")) for name in asked}
    assert sizes == {"small": 256 * KIB, "large": 256 * KIB + 1, "empty": 0}


def test_many_small_outputs_go_side_by_side_over_no_more_connections_than_there_are(lab, bucket, out) -> None:
    """Each is there once, whole."""
    script = 'for n in $(seq 300); do printf %s "$n" > "$TMP_OUTPUT_DIR/$n"; done'
    with FaultyS3(bucket.endpoint) as s3:
        agent = lab.agent(script, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        answer = agent.invoke({"Records": [bucket.put("in/a", b"x")]})
    assert answer.error_type is None, answer.body
    assert s3.count("PUT") == 300
    assert {key: bucket.get(f"out/{key}") for key in ("1", "150", "300")} == {"1": b"1", "150": b"150", "300": b"300"}
    assert len(bucket.keys("out/")) == 300
    assert CONNECTIONS <= 32
