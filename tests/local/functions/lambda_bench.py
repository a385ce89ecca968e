"""A Lambda that really runs: moto's control plane in this process, the engine on it, and a busybox image pushed over HTTP."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from scar.local.functions.engine import Functions
from scar.local.registry import RegistryData
from scar.local.rootfs import RootfsStore
from scar.local.sandbox import choose
from scar.package.oci import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST

ACCOUNT, REGION = "123456789012", "us-east-1"

# A runtime of 20 lines: for each event it runs $HANDLER with the event in /tmp/event; what that writes to /tmp/reply is answered.
BOOTSTRAP = r"""
api=/2018-06-01/runtime
host=${AWS_LAMBDA_RUNTIME_API%:*} port=${AWS_LAMBDA_RUNTIME_API#*:}
ask() { nc "$host" "$port"; }
post() {
  { printf 'POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n' "$1" "$(stat -c %s "$2")"; cat "$2"; } | ask >/tmp/answer
}
eval "$INIT"
while :; do
  printf 'GET %s/invocation/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' "$api" | ask >/tmp/next || exit 0
  [ -s /tmp/next ] || exit 0
  id=$(sed -n 's/^Lambda-Runtime-Aws-Request-Id: \([^\r]*\)\r*$/\1/p' /tmp/next)
  sed '1,/^\r*$/d' /tmp/next >/tmp/event
  cp /tmp/event /tmp/reply
  end=response
  eval "$HANDLER"
  post "$api/invocation/$id/$end" /tmp/reply
done
"""


def until(check: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `check` answers once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


FAIL = 'end=error; echo \'{"errorType":"Mine","errorMessage":"no"}\' >/tmp/reply; echo tried'
COUNT = 'n=$((n+1)); printf \'{"n": %d, "event": %s}\' $n "$(cat /tmp/event)" >/tmp/reply'


def processes(mark: str) -> list[str]:
    """Command lines on this machine that hold a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in line:
            found.append(line)
    return found


def error_of(answer: dict[str, Any]) -> tuple[str, str]:
    assert answer["FunctionError"] == "Unhandled"
    return answer["body"]["errorType"], answer["body"]["errorMessage"]


@dataclass(frozen=True)
class Layer:
    content: bytes
    diff_id: str

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


def layer(files: dict[str, bytes]) -> Layer:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for folder in ("bin", "tmp", "proc", "dev", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for applet in (
            "sh",
            "nc",
            "cat",
            "sed",
            "stat",
            "sleep",
            "printf",
            "cp",
            "id",
            "env",
            "ls",
            "dd",
            "head",
            "wc",
            "rm",
            "date",
            "tr",
            "yes",
        ):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    plain = raw.getvalue()
    return Layer(gzip.compress(plain, 1, mtime=0), f"sha256:{hashlib.sha256(plain).hexdigest()}")


def busybox() -> bytes:
    found = shutil.which("busybox")
    assert found, "these tests need a static busybox: apt-get install busybox-static"
    return Path(found).read_bytes()


class Logs:
    """Keeps the lines, and when they came."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, float]] = []

    def put(
        self,
        group: str,
        stream: str,
        lines: Sequence[tuple[int, str]],
        *,
        account: str = "",
        region: str = "",
        make: bool = True,
    ) -> None:
        self.lines += [(group, stream, text, time.time()) for _, text in lines]

    def of(self, function: str) -> list[str]:
        return [text for group, _, text, _ in list(self.lines) if group == f"/aws/lambda/{function}"]


class Local:
    """One local AWS without the daemon around it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self.logs, self.told = folder, Logs(), []
        self._open = True
        self.registry = RegistryData(folder / "registry", endpoint=lambda: self.url)
        self.functions = Functions(
            state=folder / "functions",
            endpoint=lambda: self.url,
            registry=self.registry,
            rootfs=RootfsStore(folder / "rootfs"),
            **{
                "engine": cache(lambda: choose(scratch=folder / "scratch")),
                "tell": self.told.append,
                "log": self.logs,
                **settings,
            },
        )
        moto = DomainDispatcherApplication(create_backend_app)

        def application(environ: dict[str, Any], start_response: Any) -> Any:
            path = environ["PATH_INFO"]
            chosen = self.registry if path == "/v2" or path.startswith("/v2/") else moto
            return chosen(environ, start_response)

        self._server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.functions.install()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Local:
        self.functions.start()
        return self

    def reopened(self, **settings: Any) -> Local:
        """Another engine on the same state, with moto's control plane as it is."""
        return Local(self.folder, **settings)

    def __exit__(self, *_: object) -> None:
        if not self._open:
            return
        self._open = False
        self.functions.stop()
        self._server.shutdown()
        self._server.server_close()

    def client(self, service: str) -> Any:
        config = Config(retries={"max_attempts": 0, "mode": "standard"}, read_timeout=60, max_pool_connections=50)
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=config,
        )

    @cached_property
    def lambda_(self) -> Any:
        return self.client("lambda")

    @cached_property
    def ecr(self) -> Any:
        return self.client("ecr")

    @cached_property
    def sqs(self) -> Any:
        return self.client("sqs")

    @cached_property
    def role(self) -> str:
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = {"Version": "2012-10-17", "Statement": [trust]}
        made = self.client("iam").create_role(RoleName="runs", AssumeRolePolicyDocument=json.dumps(policy))
        return str(made["Role"]["Arn"])

    @cached_property
    def web(self) -> requests.Session:
        """The registry's client, logged in."""
        session = requests.Session()
        token = self.ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        session.headers["Authorization"] = f"Basic {token}"
        return session

    def push_blob(self, repository: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self.web.post(f"{self.url}/v2/{repository}/blobs/uploads/")
        done = self.web.put(f"{self.url}{begun.headers['Location']}", params={"digest": digest}, data=content)
        assert done.status_code == 201, done.text
        return {"digest": digest, "size": len(content)}

    def push(
        self,
        repository: str,
        tag: str,
        *layers: Layer,
        config: dict[str, Any] | None = None,
        architecture: str = "amd64",
    ) -> str:
        """An image; its digest."""
        document = {
            "architecture": architecture,
            "os": "linux",
            "config": config or {"Entrypoint": ["/bin/sh", "/bootstrap"]},
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, **self.push_blob(repository, json.dumps(document).encode())},
            "layers": [{"mediaType": OCI_LAYER_GZIP, **self.push_blob(repository, one.content)} for one in layers],
        }
        done = self.web.put(
            f"{self.url}/v2/{repository}/manifests/{tag}",
            data=json.dumps(manifest).encode(),
            headers={"Content-Type": OCI_MANIFEST},
        )
        assert done.status_code == 201, done.text
        return done.headers["Docker-Content-Digest"]

    def ensure_image(self, repository: str = "scar/test") -> str:
        """The URI, by digest, of the image with the small runtime."""
        if not self.ecr_has(repository):
            self.ecr.create_repository(repositoryName=repository)
        digest = self.push(repository, "latest", layer({"bin/busybox": busybox(), "bootstrap": BOOTSTRAP.encode()}))
        return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{repository}@{digest}"

    def ecr_has(self, repository: str) -> bool:
        names = [found["repositoryName"] for found in self.ecr.describe_repositories()["repositories"]]
        return repository in names

    @cached_property
    def image(self) -> str:
        return self.ensure_image()

    def make(self, name: str, handler: str = "", *, init: str = "", **more: Any) -> Any:
        """A function whose event handler is a line of shell."""
        variables = {"HANDLER": handler or ":", "INIT": init or ":", **more.pop("variables", {})}
        return self.lambda_.create_function(
            FunctionName=name,
            PackageType="Image",
            Code={"ImageUri": more.pop("image", None) or self.image},
            Role=self.role,
            Environment={"Variables": variables},
            **{"Timeout": 10, **more},
        )

    def invoke(self, name: str, payload: Any = None, **more: Any) -> dict[str, Any]:
        answer = self.lambda_.invoke(FunctionName=name, Payload=json.dumps(payload).encode(), **more)
        body = answer["Payload"].read()
        answer["body"] = json.loads(body) if body else None
        if "LogResult" in answer:
            answer["log"] = base64.b64decode(answer["LogResult"]).decode()
        return dict(answer)


class _Quiet(MotoRequestHandler):
    def log(self, *_: Any) -> None:
        """Nobody reads it."""


def reset_moto() -> None:
    from moto.core.base_backend import BackendDict

    BackendDict.reset()


def arn(name: str, service: str = "lambda:{}:{}:function:") -> str:
    return f"arn:aws:{service.format(REGION, ACCOUNT)}{name}"


def runs(local: Local, name: str) -> int:
    return sum(line.startswith("REPORT") for line in local.logs.of(name))


def send(local: Local, name: str, payload: object = None, **more: str) -> None:
    answer = local.lambda_.invoke(
        FunctionName=name, InvocationType="Event", Payload=json.dumps(payload).encode(), **more
    )
    assert answer["StatusCode"] == 202
    assert answer["Payload"].read() == b""


def queue(local: Local, name: str) -> str:
    return str(local.sqs.create_queue(QueueName=name)["QueueUrl"])


def received(local: Local, url: str) -> dict[str, Any]:
    def look() -> list[Any]:
        return local.sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages", [])

    return dict(until(look)[0])


def failed(local: Local, name: str) -> list[Any]:
    return [event for event in local.functions.status()["failed_events"] if event["function"] == arn(name)]
