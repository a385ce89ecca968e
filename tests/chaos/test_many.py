"""A thousand uploads, fifty functions, sixteen writers, a hundred runs of one sandbox: nothing lost, nothing twice, nothing left behind."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import boto3
from botocore.config import Config

from tests.chaos.choice import Choice
from tests.chaos.small import COPY, counts, deploy, small, small_image
from tests.e2e.conftest import Local, until

WRITERS = 16


def s3_of(local: Local) -> Any:
    """A client with a connection for each of many threads."""
    return boto3.client(
        "s3",
        endpoint_url=local.url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(max_pool_connections=64),
    )


@dataclass(frozen=True, slots=True)
class Write:
    """One acknowledged write: between which moments, and which version it made."""

    begun: float
    ended: float
    version: str
    body: bytes


def test_no_event_of_very_many_at_once_is_lost(own_local: Local, choice: Choice) -> None:
    """LO7"""
    functions, uploads = (50, 1000) if choice.whole else (5, 150)
    small_image(own_local.folder)
    deploy(own_local, *({"lambda": small(f"f{number}", COPY, own_local.folder)} for number in range(functions)))
    s3 = s3_of(own_local)
    bodies = {(f"f{number % functions}", f"{number}.txt"): b"%d" % number for number in range(uploads)}

    def put(place: tuple[str, str]) -> None:
        name, key = place
        s3.put_object(Bucket=f"bucket-{name}", Key=f"in/{key}", Body=bodies[place])

    begun = time.monotonic()
    with ThreadPoolExecutor(64) as threads:
        list(threads.map(put, bodies))
    url = own_local.url
    until("the end of every run", lambda: ended(url) == uploads, 300)
    print(f"{uploads} uploads to {functions} functions: {time.monotonic() - begun:.1f} s")
    for (name, key), body in bodies.items():
        assert s3.get_object(Bucket=f"bucket-{name}", Key=f"out/{key}")["Body"].read() == body, (name, key)
    said = counts(url)
    assert sum(of["runs"] for of in said.values()) == uploads
    assert sum(of["failures"] for of in said.values()) == 0


def ended(url: str) -> int:
    said = counts(url).values()
    return 0 if any(of["busy"] or of["queued"] for of in said) else sum(of["runs"] for of in said)


def test_of_sixteen_writers_on_one_key_the_last_one_stays_and_each_is_told(own_local: Local, choice: Choice) -> None:
    """LO7"""
    each = 40 if choice.whole else 4
    small_image(own_local.folder)
    own_local.must("local", "up")
    s3 = s3_of(own_local)
    s3.create_bucket(Bucket="bucket-one")
    s3.put_bucket_versioning(Bucket="bucket-one", VersioningConfiguration={"Status": "Enabled"})
    deploy(own_local, {"lambda": small("one", COPY, own_local.folder)})

    def write(writer: int) -> list[Write]:
        made: list[Write] = []
        for number in range(each):
            body, begun = f"{writer} {number}".encode(), time.monotonic()
            version = s3.put_object(Bucket="bucket-one", Key="in/key", Body=body)["VersionId"]
            made.append(Write(begun, time.monotonic(), version, body))
        return made

    with ThreadPoolExecutor(WRITERS) as threads:
        writes = [one for of in threads.map(write, range(WRITERS)) for one in of]
    listed = s3.get_paginator("list_object_versions").paginate(Bucket="bucket-one", Prefix="in/key")
    order = {item["VersionId"]: -place for place, item in enumerate(v for page in listed for v in page["Versions"])}
    assert sorted(order) == sorted(one.version for one in writes)
    wrong = [(a, b) for a, b in permutations(writes, 2) if a.ended < b.begun and order[a.version] > order[b.version]]
    assert wrong == []
    last = max(writes, key=lambda one: order[one.version])
    assert s3.get_object(Bucket="bucket-one", Key="in/key")["Body"].read() == last.body
    until("a run for each", lambda: ended(own_local.url) == len(writes), 120)
    assert counts(own_local.url)["one"]["failures"] == 0


# Tells what it finds, and then soils whatever a run could leave to the next.
SOIL = r"""#!/usr/bin/env python3
import json, os, pathlib, subprocess, sys, tempfile
umask = os.umask(0)
known = {"REQUEST_ID", "AWS_LAMBDA_REQUEST_ID", "EVENT", "EVENT_TIME", "SCAR_IDEMPOTENCY_KEY"}
here = pathlib.Path(os.environ["TMP_OUTPUT_DIR"]).parent
said = {
    "files": sorted(str(path).replace(here.name, "run") for path in pathlib.Path("/tmp").rglob("*") if here not in path.parents),
    "shm": [name.replace(here.name, "run") for name in os.listdir("/dev/shm")],
    "run": sorted(os.listdir(os.environ["TMP_OUTPUT_DIR"])),
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "cwd": os.getcwd().replace(here.name, "run"), "umask": umask, "limits": pathlib.Path("/proc/self/limits").read_text(),
    "environment": {k: v.replace(here.name, "run") for k, v in os.environ.items() if k not in known},
}
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], "said").write_text(json.dumps(said))
for folder in ("/tmp", "/dev/shm", str(here), str(here.parent)):
    try:
        pathlib.Path(tempfile.mkdtemp(dir=folder), "left").write_text("left")
    except OSError:
        continue
os.chdir("/")
os.environ["LEFT"] = "left"
stay = "import os, time; os.setsid(); os.fork() and os._exit(0); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", stay], close_fds=False)
"""


def test_a_hundred_runs_of_one_sandbox_find_it_as_the_first_one_did(own_local: Local, choice: Choice) -> None:
    """LO13"""
    (own_local.folder / "soil.py").write_text(SOIL)
    body = {"name": "soil", "memory": 256, "timeout": 30, "init_script": "soil.py", "container": {"image": "scratch"}}
    deploy(own_local, {"lambda": body, "function_url": {"auth": "none"}})
    web = own_local.client("lambda").get_function_url_config(FunctionName="soil")["FunctionUrl"]
    found: list[Mapping[str, Any]] = []
    for _ in range(100 if choice.whole else 25):
        with urllib.request.urlopen(web, timeout=60) as answer:
            found.append(json.load(answer))
    assert [number for number, one in enumerate(found) if one != found[0]] == [], (found[0], found[-1])
    assert found[0]["run"] == []
    assert found[0]["descriptors"] == [0, 1, 2]
    said = counts(own_local.url)["soil"]
    assert (said["runs"], said["failures"], said["warm"]) == (len(found), 0, 1)
