"""A daemon process to test against: the real program, with a Lambda engine that records what it is given."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

RECORDING_DAEMON = Path(__file__).with_name("recording_daemon.py")
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


class Running:
    """One daemon process and clients for it."""

    def __init__(self, folder: Path, *, port: int = 0, program: Sequence[str] = (str(RECORDING_DAEMON),)) -> None:
        self.folder = folder
        self._argv = [sys.executable, *program, "--state", str(folder), "--port", str(port)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Running:
        self.process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 20
        while self._address().get("pid") != self.process.pid:
            if self.process.poll() is not None:
                assert self.process.stdout is not None
                raise AssertionError(f"the daemon ended: {self.process.stdout.read().decode()}")
            assert time.monotonic() < deadline, "the daemon did not come up"
            time.sleep(0.01)
        return self

    def _address(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "daemon.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    @property
    def port(self) -> int:
        return int(self._address()["port"])

    def client(self, service: str, **config: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"max_attempts": 0}, max_pool_connections=64, **config),
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def _ended(self) -> int:
        assert self.process is not None and self.process.stdout is not None
        code = self.process.wait(20)
        self.process.stdout.close()
        return code

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def recorded(self, call: str) -> list[dict[str, Any]]:
        rows = (json.loads(line) for line in (self.folder / "recorded.jsonl").read_text().splitlines())
        return [row for row in rows if row["call"] == call]

    def records(self) -> list[dict[str, Any]]:
        """The S3 event records that the engine was given, in order."""
        return [record for row in self.recorded("accept") for record in row["payload"]["Records"]]


def make_role(daemon: Running, name: str = "role") -> str:
    arn: str = daemon.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    return arn


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("code.py", "def handler(event, context): pass\n")
    return buffer.getvalue()


def make_function(daemon: Running, name: str = "grayify", **settings: Any) -> str:
    role = settings.pop("Role", None) or make_role(daemon, f"{name}-role")
    wanted = {"Runtime": "python3.13", "Handler": "code.handler", "Code": {"ZipFile": zipped()}, **settings}
    arn: str = daemon.client("lambda").create_function(FunctionName=name, Role=role, **wanted)["FunctionArn"]
    return arn


def let_s3_in(daemon: Running, function: str, bucket: str, **changed: Any) -> None:
    daemon.client("lambda").add_permission(
        **{
            "FunctionName": function,
            "StatementId": f"s3-{bucket}",
            "Action": "lambda:InvokeFunction",
            "Principal": "s3.amazonaws.com",
            "SourceArn": f"arn:aws:s3:::{bucket}",
            "SourceAccount": "123456789012",
            **changed,
        }
    )


def watch(
    daemon: Running,
    bucket: str,
    function_arn: str,
    *,
    prefix: str = "",
    suffix: str = "",
    event: str = "s3:ObjectCreated:*",
) -> None:
    """Make the bucket and let it tell the function of its events."""
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket=bucket)
    let_s3_in(daemon, function_arn, bucket)
    rules = [{"Name": name, "Value": value} for name, value in (("prefix", prefix), ("suffix", suffix)) if value]
    rule: dict[str, Any] = {"Id": "rule", "LambdaFunctionArn": function_arn, "Events": [event]}
    if rules:
        rule["Filter"] = {"Key": {"FilterRules": rules}}
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"LambdaFunctionConfigurations": [rule]}
    )
