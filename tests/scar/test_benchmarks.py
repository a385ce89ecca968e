"""The suite of benchmarks runs, its server is one that can be believed, and the pages show what it has found."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
MIB = 1 << 20


def python(program: str, *words: str) -> str:
    """What a program that imports from the suite says."""
    path = os.pathsep.join(str(place) for place in (BENCHMARKS, ROOT, ROOT / "faas-supervisor"))
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-c", program, *words]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_item_of_the_suite_can_be_measured() -> None:
    said = python(
        "import importlib, run\n"
        "for name, module in run.ITEMS.items():\n"
        "    print(name, callable(importlib.import_module(module).measure))"
    )
    found = dict(line.split() for line in said.splitlines())
    assert {"start-up", "control-plane", "transfers", "agent", "latency", "timeline", "images"} <= found.keys()
    assert set(found.values()) == {"True"}


def test_start_up_is_measured_quickly_beside_its_peers(tmp_path: Path) -> None:
    argv = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "start-up"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("|")
    ]
    beside = {(row[0], row[2]) for row in rows}
    assert {("scar --help", "aws --version"), ("scar ls", "aws s3 ls")} <= beside
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_item_is_refused_before_anything_is_measured() -> None:
    argv = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "start-up", "no-such-item"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "no-such-item" in done.stderr
    assert done.stdout == ""


def test_the_pages_show_the_results_as_they_are() -> None:
    said = python(
        "import page\n"
        "for one in page.PAGES:\n"
        "    assert page.generated(one.read_text()) == one.read_text(), f'{one}: python benchmarks/page.py writes it anew'\n"
        "    print(one.name)\n"
        "old = [one.name for one in page.PICTURES.glob('*.svg') if one.read_text() != (page.RESULTS / one.name).read_text()]\n"
        "assert not old, old"
    )
    assert said.split() == ["performance.md", "where-the-time-goes.md"]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The suite's S3 endpoint."""
    argv = [sys.executable, str(BENCHMARKS / "s3_endpoint.py"), str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()
        assert server.wait(60) == 0


def client(url: str) -> Any:
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    s3.create_bucket(Bucket="files")
    return s3


def test_what_the_endpoint_is_given_it_gives_back(url: str, tmp_path: Path) -> None:
    s3 = client(url)
    noise = os.urandom(12 * MIB)
    (tmp_path / "noise").write_bytes(noise)
    in_parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_file(str(tmp_path / "noise"), "files", "in parts", Config=in_parts)
    s3.put_object(Bucket="files", Key="small/é +%", Body=b"small")
    assert s3.get_object(Bucket="files", Key="in parts")["Body"].read() == noise
    first, last = 5 * MIB - 3, 10 * MIB + 3
    part = s3.get_object(Bucket="files", Key="in parts", Range=f"bytes={first}-{last}")
    assert (part["Body"].read(), part["ContentLength"]) == (noise[first : last + 1], last - first + 1)
    listed = s3.list_objects_v2(Bucket="files")["Contents"]
    assert {one["Key"]: one["Size"] for one in listed} == {"in parts": len(noise), "small/é +%": 5}
    digest = hashlib.md5(b"small", usedforsecurity=False).hexdigest()
    assert s3.head_object(Bucket="files", Key="small/é +%")["ETag"] == f'"{digest}"'


def test_the_endpoint_keeps_no_body_that_is_cut_short_or_has_no_length(url: str) -> None:
    s3 = client(url)
    host, _, port = url.removeprefix("http://").partition(":")
    for head in ("Content-Length: 600000\r\n", "Content-Length: 5000\r\n", ""):
        with socket.create_connection((host, int(port)), timeout=60) as wire:
            wire.sendall(f"PUT /files/cut HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + b"x" * (4000 if head else 0))
            wire.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda wire=wire: wire.recv(4096), b""))  # type: ignore[misc]
        assert answer == b"" if head else answer.startswith(b"HTTP/1.1 411 ")
    assert "Contents" not in s3.list_objects_v2(Bucket="files")
