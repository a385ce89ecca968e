"""Services of OSCAR clusters, against a loopback cluster that keeps services and checks who asks (T1-25)."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scar.cli import main
from tests.support.certificates import Authority

PASSWORD = "canary-cluster-pw"
LAB = "canary-lab-secret"
DEFINITION = """\
functions:
  oscar:
  - my-cluster:
      name: plants
      endpoint: {endpoint}
      auth_user: oscar
      auth_password: ${{env.OSCAR_PASSWORD}}
      memory: 1Gi
      cpu: '1.0'
      image: registry.example/plants:1
      script: plants.sh
      environment: {{Variables: {{MODE: fast}}}}
      input: [{{storage_provider: minio.default, path: plants/in}}]
      output: [{{storage_provider: s3.lab, path: results/out, suffix: [.png]}}]
{more}
storage_providers:
  s3:
    lab: {{access_key: LAB, secret_key: '${{env.LAB_SECRET}}', region: eu-west-1}}
    unused: {{access_key: NOBODY, secret_key: canary-unused}}
"""


@dataclass
class Cluster:
    """A cluster's REST API as its source has it. `answers` are given in place of the next ones."""

    endpoint: str = ""
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    yield from _served(None)


def _served(tls: ssl.SSLContext | None) -> Iterator[Cluster]:
    cluster = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, text: str = "") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "http://elsewhere.example/")
            self.end_headers()
            self.wfile.write(body)

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = json.loads(self.rfile.read(length)) if length else None
            cluster.requests.append((self.command, self.path, sent))
            expected = "Basic " + base64.b64encode(f"oscar:{PASSWORD}".encode()).decode()
            if cluster.answers:
                self._answer(*cluster.answers.pop(0))
            elif self.headers.get("Authorization") != expected:
                self._answer(401)
            elif self.path == "/system/services" and self.command == "GET":
                self._answer(200, json.dumps([{**each, "token": "t"} for each in cluster.services.values()]))
            elif self.path == "/system/services":
                self._write(sent)
            else:
                self._one(self.path.removeprefix("/system/services/"))

        def _write(self, sent: dict[str, Any]) -> None:
            if self.command == "POST" and sent["name"] in cluster.services:
                self._answer(409, "A service with the provided name already exists")
            elif self.command == "PUT" and sent["name"] not in cluster.services:
                self._answer(404)
            else:
                cluster.services[sent["name"]] = sent
                self._answer(201 if self.command == "POST" else 204)

        def _one(self, name: str) -> None:
            found = cluster.services.get(name)
            if found is None:
                self._answer(404, "not there")
            elif self.command == "DELETE":
                del cluster.services[name]
                self._answer(204)
            else:  # as the cluster fills it up, and hides
                minio = {"default": {"endpoint": "http://minio", "access_key": "hidden", "secret_key": "hidden"}}
                providers = {**found.get("storage_providers", {}), "minio": minio}
                self._answer(200, json.dumps({**found, "token": "t", "labels": {}, "storage_providers": providers}))

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    cluster.endpoint = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield cluster
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def scar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OSCAR_PASSWORD", PASSWORD)
    monkeypatch.setenv("LAB_SECRET", LAB)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "plants.sh").write_text("#!/bin/sh\necho plants\n")

    def run(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        said = capsys.readouterr()
        assert not any(secret in said.out + said.err for secret in (PASSWORD, LAB, "canary"))
        return code, said.out, said.err

    return run


def define(cluster: Cluster, more: str = "") -> None:
    Path("f.yaml").write_text(DEFINITION.format(endpoint=cluster.endpoint, more=more))


def test_a_service_is_made_once_changed_where_it_differs_listed_and_removed(
    cluster: Cluster, scar: Callable[..., tuple[int, str, str]]
) -> None:
    """Nobody needs AWS for it, and no credential is ever shown."""
    define(cluster)
    code, out, _ = scar("plan", "-f", "f.yaml", "--detailed-exitcode")
    assert (code, cluster.services) == (20, {})
    assert f"+ service plants  (in OSCAR cluster my-cluster at {cluster.endpoint})" in out
    assert scar("init", "-f", "f.yaml")[0] == 0
    assert cluster.services["plants"] == {
        "name": "plants",
        "image": "registry.example/plants:1",
        "memory": "1Gi",
        "cpu": "1.0",
        "log_level": "INFO",
        "script": "#!/bin/sh\necho plants\n",
        "environment": {"variables": {"MODE": "fast"}},
        "input": [{"storage_provider": "minio.default", "path": "plants/in"}],
        "output": [{"storage_provider": "s3.lab", "path": "results/out", "suffix": [".png"]}],
        "storage_providers": {"s3": {"lab": {
            "access_key": "LAB", "secret_key": LAB, "region": "eu-west-1", "verify": True,
        }}},
    }  # fmt: skip
    cluster.requests.clear()
    assert scar("init", "-f", "f.yaml")[0] == 0
    assert [method for method, _, _ in cluster.requests] == ["GET"]
    assert scar("plan", "-f", "f.yaml", "--detailed-exitcode")[0] == 0
    Path("plants.sh").write_text("#!/bin/sh\necho other\n")
    code, out, _ = scar("plan", "-f", "f.yaml", "-o", "json")
    assert json.loads(out)["services"][0]["changes"] == ["script"]
    assert scar("init", "-f", "f.yaml")[0] == 0
    assert cluster.services["plants"]["script"].endswith("other\n")
    _, out, _ = scar("ls", "-f", "f.yaml", "-o", "json")
    (listed,) = json.loads(out)
    assert (listed["cluster"], listed["name"]) == ("my-cluster", "plants")
    assert scar("rm", "-f", "f.yaml")[0] == 0
    assert cluster.services == {}
    assert scar("rm", "-f", "f.yaml")[0] == 0  # what is not there is no error


def test_who_comes_second_changes_what_the_first_has_made(
    cluster: Cluster, scar: Callable[..., tuple[int, str, str]]
) -> None:
    define(cluster)
    cluster.services["plants"] = {"name": "plants", "image": "old"}
    cluster.answers.append((404, ""))  # it appears after the plan
    assert scar("init", "-f", "f.yaml")[0] == 0
    assert [method for method, _, _ in cluster.requests] == ["GET", "POST", "PUT"]
    assert cluster.services["plants"]["image"] == "registry.example/plants:1"


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (
            (400, f"bad memory\n\x1b[31m{PASSWORD}"),
            2,
            "answers GET /system/services/plants with 400: bad memory [31m***",
        ),
        ((401, ""), 4, "auth_password"),
        ((500, "x" * 5000), 6, "x…"),
        ((302, ""), 6, "sends us to another address"),
        ((200, "<html>"), 6, "no JSON"),
        ((200, "[]"), 6, "no service"),
    ],
)
def test_what_a_cluster_refuses_is_told_in_its_words_without_the_password(
    answer: tuple[int, str], code: int, said: str, cluster: Cluster, scar: Callable[..., tuple[int, str, str]]
) -> None:
    define(cluster)
    cluster.answers.append(answer)
    ended, _, err = scar("init", "-f", "f.yaml")
    assert (ended, said in err) == (code, True), err
    assert len(err) < 2000
    assert cluster.services == {}


def test_a_wrong_password_and_a_cluster_that_is_down(
    cluster: Cluster, scar: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    define(cluster)
    monkeypatch.setenv("OSCAR_PASSWORD", "canary-wrong")
    assert scar("init", "-f", "f.yaml")[0] == 4
    cluster.endpoint = "http://127.0.0.1:1"
    define(cluster)
    code, _, err = scar("init", "-f", "f.yaml")
    assert code == 6
    assert "cannot be reached" in err


def test_its_certificate_is_checked_unless_that_is_given_up_aloud(
    tmp_path: Path, scar: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SE13."""
    authority = Authority(tmp_path)
    pair = authority.certify("127.0.0.1", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    served = _served(context)
    cluster = next(served)
    define(cluster)
    code, _, err = scar("init", "-f", "f.yaml")
    assert (code, "its certificate is not to be trusted" in err, cluster.requests) == (6, True, [])
    define(cluster, "      ssl_verify: false")
    code, _, err = scar("init", "-f", "f.yaml")
    assert (code, "certificate is not checked" in err) == (0, True)
    define(cluster)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
    assert scar("plan", "-f", "f.yaml", "--detailed-exitcode")[0] == 0
    next(served, None)


def test_a_local_aws_leaves_clusters_alone_and_says_so(
    cluster: Cluster, scar: Callable[..., tuple[int, str, str]]
) -> None:
    define(cluster)
    for verb in ("plan", "init", "rm"):
        code, _, err = scar("--local", verb, "-f", "f.yaml")
        assert (code, "left out, for the local AWS has no OSCAR clusters: plants" in err) == (0, True)
    assert cluster.requests == []


def test_credentials_that_lie_in_aws_are_no_use_to_a_cluster(
    cluster: Cluster, scar: Callable[..., tuple[int, str, str]]
) -> None:
    text = DEFINITION.format(endpoint=cluster.endpoint, more="")
    Path("f.yaml").write_text(
        text.replace("{access_key: LAB, secret_key: '${env.LAB_SECRET}', region: eu-west-1}", "{secret: /team/lab}")
    )
    code, _, err = scar("init", "-f", "f.yaml")
    assert code == 2
    assert "lie in AWS, where no OSCAR cluster can read them" in err
    assert cluster.requests == []
