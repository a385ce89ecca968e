"""Nobody answers, somebody else does, the role expires, S3 is busy for long: does it end in bounded time, and say what it was?"""

from __future__ import annotations

import datetime
import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from faassupervisor.aws import Aws
from faassupervisor.contract import Storage
from tests.supervisor.conftest import Bucket, Lab, bucket, lab, out, s3_client, s3_endpoint
from tests.supervisor.faults import BottomlessS3
from tests.support.certificates import Authority
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import EXPIRED, Throttle
from tests.support.loopback import Handler, Loopback

__all__ = ["bucket", "lab", "out", "s3_client", "s3_endpoint"]

MIB = 1 << 20


class Roles(Loopback):
    """A container's credentials endpoint: the n-th answer has the key `key-n`, good for hours."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def handler(self) -> type[Handler]:
        return _RolesHandler


class _RolesHandler(Handler):
    def do_GET(self) -> None:
        self.owner.asked += 1
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)
        document = {
            "AccessKeyId": f"key-{self.owner.asked}",
            "SecretAccessKey": "s",
            "Token": "t",
            "Expiration": end.isoformat(),
        }
        self.send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def test_credentials_of_a_job_that_expire_early_are_fetched_anew_and_nothing_else_is_repeated(bucket: Bucket) -> None:
    """XF17."""
    with Roles() as roles, FaultProxy(bucket.endpoint) as proxy:
        aws = Aws(
            {
                "AWS_BATCH_JOB_ID": "j",
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": proxy.endpoint,
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{roles.endpoint}/role",
            }
        )
        s3 = aws.s3_for_files(2)
        s3.put_object(Bucket=bucket.name, Key="a", Body=b"1")
        proxy.add("s3", "PutObject", EXPIRED)
        s3.put_object(Bucket=bucket.name, Key="a", Body=b"2")
        signers = [re.findall("Credential=(key-\\d)", call.headers["authorization"])[0] for call in proxy.requests]
        assert (signers, roles.asked) == (["key-1", "key-1", "key-2"], 2)
        assert bucket.get("a") == b"2"
        proxy.rules.clear()
        proxy.add("s3", "PutObject", EXPIRED, times=None)
        with pytest.raises(s3.exceptions.ClientError, match="ExpiredToken"):
            s3.put_object(Bucket=bucket.name, Key="a", Body=b"3")
        assert len(proxy.requests) == 5
        assert aws.credentials().access_key == "key-3"


def fast(times: int) -> dict[str, str]:
    """For a process whose clock and sleeps go so many times as fast as ours."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME": f"+0 x{times}", "FAKETIME_NO_CACHE": "0"}


def test_while_s3_is_busy_requests_come_ever_less_often_and_the_event_ends_late_and_well(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF16: the agent's clock goes ten times as fast, so that its pauses of up to 16 s are short."""
    script = 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/copy"'
    with FaultProxy(bucket.endpoint) as proxy:
        agent = lab.agent(script, outputs=out, environment={"AWS_ENDPOINT_URL": proxy.endpoint, **fast(10)})
        proxy.add("s3", "GetObject", Throttle(), times=4)
        proxy.add("s3", "PutObject", Throttle(), times=4)
        answer = agent.invoke({"Records": [bucket.put("in/a")]}, timeout_s=3000)
        assert answer.error_type is None, f"{answer.body!r}\n{proxy.told()}"
        assert bucket.get("out/copy") == b"hello"
        assert (len(proxy.calls("s3", "GetObject")), len(proxy.calls("s3", "PutObject"))) == (5, 5)
        proxy.rules.clear()
        proxy.requests.clear()
        proxy.add("s3", "GetObject", Throttle(), times=None)
        answer = agent.invoke({"Records": [bucket.put("in/b")]}, timeout_s=3000)
        assert answer.error_type == "StageInFailed" and "SlowDown" in answer.document["errorMessage"]
        assert len(proxy.calls("s3", "GetObject")) == 6


@contextmanager
def blackhole() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Impostor(BottomlessS3):
    """Has a certificate of an authority that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(1)
        pair = Authority(folder).certify("127.0.0.1", folder)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)

    def __enter__(self) -> Self:
        super().__enter__()
        self._http.socket = self._context.wrap_socket(self._http.socket, server_side=True)
        return self

    @property
    def endpoint(self) -> str:
        return f"https://{self.address}"


@pytest.mark.parametrize("kind", ["no such name", "nobody listens", "never answers", "somebody else"])
def test_where_nobody_answers_the_event_fails_in_bounded_time_and_names_the_host(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...], tmp_path: Path, kind: str
) -> None:
    """XF15: the agent's clock goes sixty times as fast: six attempts of a minute each, and the pauses between them."""
    with blackhole() as silent, Impostor(tmp_path) as impostor:
        endpoint = {
            "no such name": "http://s3.nowhere.invalid",
            "nobody listens": "http://127.0.0.1:9",
            "never answers": silent,
            "somebody else": impostor.endpoint,
        }[kind]
        agent = lab.agent("true", outputs=out, environment={"AWS_ENDPOINT_URL": endpoint, **fast(60)})
        answer = agent.invoke({"Records": [bucket.record("in/a")]}, timeout_s=6000)
    assert answer.error_type == "StageInFailed", answer.body
    assert endpoint in answer.document["errorMessage"]


def test_memory_stays_bounded_however_large_the_object(lab: Lab, request: pytest.FixtureRequest) -> None:
    """XF13: 5 GB with `--whole`, else a hundred megabytes."""
    size = (5000 if request.config.getoption("--whole") else 100) * MIB
    with BottomlessS3(size) as s3:
        agent = lab.agent(
            'truncate -s "$(stat -c %s "$INPUT_FILE_PATH")" "$TMP_OUTPUT_DIR/copy"; rm "$INPUT_FILE_PATH"',
            outputs=(Storage("s3", "b", "out"),),
            environment={"AWS_ENDPOINT_URL": s3.endpoint},
        )
        record = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "b"}, "object": {"key": "large"}},
        }
        answer = agent.invoke({"Records": [record]}, timeout_s=600)
        assert answer.error_type is None, answer.body
        assert s3.received == size
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak_kib < 200 * 1024
