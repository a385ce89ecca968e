"""Whatever breaks between `scar put`, `scar get` and S3: does a file, or an object, appear that is not whole and right?

The command line talks to one proxy. Every point of a sweep is an object of its own; the message of a failing one names it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.choice import Choice
from tests.supervisor.conftest import CREDENTIALS, Bucket, bucket, s3_client, s3_endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import Cut, Drop, Elsewhere, ErrorInside, Fault, Flip, Lose, Refuse, Throttle
from tests.support.loopback import Handler, Loopback

__all__ = ["bucket", "s3_client", "s3_endpoint"]

MIB = 1 << 20
SMALL, LARGE = 300_000, 17 * MIB + 11  # in one request; in ranges side by side
ROOT = Path(__file__).parents[2]


@dataclass
class Desk:
    """Where a user types: a folder, an account behind a proxy."""

    proxy: FaultProxy
    folder: Path
    bucket: Bucket

    def scar(self, *words: str, before: Sequence[str] = (), **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_ENDPOINT_URL": self.proxy.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            **CREDENTIALS,
            **variables,
        }
        done = subprocess.run(
            [*before, sys.executable, "-m", "scar", *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def parts_left(self) -> list[Any]:
        return list(self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name).get("Uploads", []))

    def forget(self) -> None:
        self.proxy.rules.clear()
        self.proxy.story.clear()
        self.proxy.requests.clear()


@pytest.fixture
def desk(bucket: Bucket, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with FaultProxy(bucket.endpoint) as proxy:
        yield Desk(proxy, folder, bucket)


def place(where: str, length: int) -> int:
    return {"byte 0": 0, "byte 1": 1, "half": length // 2, "last": length - 1}[where]


def spans(size: int) -> list[tuple[str, int]]:
    """The ranges that an object comes in: what their requests ask for, '' for all of it, and their length."""
    if size == SMALL:
        return [("", size)]
    step = 8 * MIB
    return [(f"bytes={start}-{min(start + step, size) - 1}", min(step, size - start)) for start in range(0, size, step)]


def of_range(asked: str) -> Callable[[Any], bool]:
    return lambda request: request.headers.get("range", "") == asked


POINTS = [
    (kind, size, span, where)
    for kind in (Cut, Flip)
    for size in (SMALL, LARGE)
    for span in spans(size)
    for where in ("byte 0", "byte 1", "half", "last")
]


def test_what_is_cut_or_altered_on_its_way_is_fetched_again_or_never_becomes_a_file(desk: Desk, choice: Choice) -> None:
    """XF1, XF2: every range at each place, once and always."""
    content = {size: os.urandom(size) for size in (SMALL, LARGE)}
    for size, body in content.items():
        desk.bucket.put(f"in/{size}", body)
    points = itertools.product(POINTS, (1, None))
    for (kind, size, (asked, length), where), times in choice.of("cuts and flips of get", points, 5):
        desk.forget()
        at = place(where, length)
        desk.proxy.add("s3", "GetObject", kind(at), times=times, where=of_range(asked))
        target = f"got-{kind.__name__}-{size}-{asked}-{where}-{times}".replace(" ", "-")
        done = desk.scar("get", "-b", f"{desk.bucket.name}/in/{size}", "-p", target)
        point = f"{target}: {done.stderr}\n{desk.proxy.told()}"
        came = [path for path in (desk.folder / target).rglob("*") if path.is_file()]
        assert desk.proxy.story, point
        if done.returncode == 0:
            assert [path.read_bytes() == content[size] for path in came] == [True], point
        else:
            assert times is None, point
            assert came == [], point
            assert f"in/{size}" in done.stderr or "hecksum" in done.stderr, point
        assert len(desk.proxy.calls("s3", "GetObject")) <= 40, point


def test_an_object_that_changes_while_it_comes_is_an_error_and_no_mixture(desk: Desk) -> None:
    """XF3."""
    desk.bucket.put("in/a", b"a" * LARGE)
    changed = []

    def change(request: Any) -> bool:
        if not changed and request.headers.get("range", "").startswith(f"bytes={8 * MIB}-"):
            changed.append(desk.bucket.put("in/a", b"b" * LARGE))
        return False

    desk.proxy.add("s3", "GetObject", Drop(), where=change)
    done = desk.scar("get", "-b", f"{desk.bucket.name}/in/a")
    assert changed and done.returncode != 0, done.stderr
    assert desk.names() == []


def test_what_s3_refuses_is_asked_for_a_few_times_at_most_and_its_cause_is_named(desk: Desk) -> None:
    """XF4, XF14, XF15."""
    desk.bucket.put("in/a")
    (desk.folder / "b").write_text("b")
    for command, operation, fault, words in (
        ("get", "GetObject", Refuse(404, "NoSuchKey"), ["GetObject"]),
        ("get", "GetObject", Refuse(403, "AccessDenied"), ["not allowed", "GetObject"]),
        (
            "get",
            "GetObject",
            Refuse(403, "InvalidObjectState", "archived"),
            ["is archived", "Restore it first"],
        ),
        ("get", "GetObject", Refuse(400, "KMS.DisabledException", "the key is disabled"), ["the key is disabled"]),
        ("put", "PutObject", Refuse(403, "AccessDenied"), ["not allowed", "PutObject"]),
        ("put", "PutObject", Refuse(403, "RequestTimeTooSkewed", "too large"), ["clock"]),
        ("put", "PutObject", Refuse(400, "ExpiredToken", "expired"), ["expired", "sign in again"]),
        (
            "put",
            "PutObject",
            Refuse(400, "AccessControlListNotSupported", "no ACLs"),
            ["AccessControlListNotSupported"],
        ),
    ):
        desk.forget()
        desk.proxy.add("s3", operation, fault, times=None)
        if command == "get":
            done = desk.scar("get", "-b", f"{desk.bucket.name}/in/a")
        else:
            done = desk.scar("put", "-b", f"{desk.bucket.name}/in", "-p", "b")
        assert done.returncode != 0 and all(word in done.stderr for word in words), (fault, done.stderr)
        assert len(desk.proxy.calls("s3", operation)) <= 2, fault  # the short way, then the ordinary one
    assert desk.names() == ["b"]
    assert desk.bucket.keys() == ["in/a"]


@pytest.mark.parametrize("fault", [Refuse(403, "AccessDenied"), Drop()], ids=repr)
def test_a_part_that_never_arrives_leaves_neither_object_nor_parts(desk: Desk, fault: Fault) -> None:
    """XF6: the third of five."""
    (desk.folder / "large").write_bytes(bytes(33 * MIB))
    desk.proxy.add("s3", "UploadPart", fault, times=None, where=lambda request: "partNumber=3" in request.path)
    done = desk.scar("put", "-b", f"{desk.bucket.name}/in", "-p", "large")
    assert done.returncode != 0, desk.proxy.told()
    assert len(desk.proxy.calls("s3", "AbortMultipartUpload")) >= 1
    assert desk.bucket.keys() == [] and desk.parts_left() == []


def test_a_write_whose_answer_is_lost_is_sent_again_the_same(desk: Desk) -> None:
    """XF7."""
    for number, fault in enumerate((Lose(), Drop(), Throttle(), Refuse(500, "InternalError"))):
        desk.forget()
        (desk.folder / f"f{number}").write_bytes(os.urandom(1000))
        desk.proxy.add("s3", "PutObject", fault)
        done = desk.scar("put", "-b", f"{desk.bucket.name}/in", "-p", f"f{number}")
        assert done.returncode == 0, (fault, done.stderr)
        sent = {call.body for call in desk.proxy.calls("s3", "PutObject") if call.path.endswith(f"/f{number}")}
        assert sent == {(desk.folder / f"f{number}").read_bytes()}
        assert desk.bucket.get(f"in/f{number}") in sent


@pytest.mark.parametrize(
    ("faults", "there"),
    [
        ([ErrorInside()], True),
        ([ErrorInside(applied=True)], True),
        ([Lose(), Refuse(404, "NoSuchUpload")], True),
        ([Refuse(404, "NoSuchUpload")], False),
        ([ErrorInside()] * 20, False),
    ],
    ids=["error inside", "error inside though applied", "lost and gone", "gone", "error inside for ever"],
)
def test_an_upload_that_ends_in_doubt_is_looked_at(desk: Desk, faults: list[Fault], there: bool) -> None:
    """XF8."""
    content = os.urandom(9 * MIB)
    (desk.folder / "large").write_bytes(content)
    for number, fault in enumerate(faults):
        desk.proxy.add("s3", "CompleteMultipartUpload", fault, skip=number)
    done = desk.scar("put", "-b", f"{desk.bucket.name}/in", "-p", "large")
    assert (done.returncode == 0) == there, f"{done.stderr}\n{desk.proxy.told()}"
    assert desk.bucket.keys() == (["in/large"] if there else [])
    if there:
        assert desk.bucket.get("in/large") == content
    assert desk.parts_left() == []


def test_an_older_object_of_the_name_is_not_taken_for_an_upload_that_is_gone(desk: Desk) -> None:
    """XF8."""
    desk.bucket.put("in/large", bytes(9 * MIB))
    (desk.folder / "large").write_bytes(os.urandom(9 * MIB))
    desk.proxy.add("s3", "CompleteMultipartUpload", Refuse(404, "NoSuchUpload"))
    done = desk.scar("put", "-b", f"{desk.bucket.name}/in", "-p", "large")
    assert done.returncode != 0, done.stderr
    assert desk.bucket.get("in/large") == bytes(9 * MIB)


def test_a_bucket_of_another_region_is_found_there(desk: Desk) -> None:
    """XF15."""
    (desk.folder / "a").write_bytes(b"a" * 1000)
    for operation in ("PutObject", "GetObject", "ListObjectsV2"):
        desk.proxy.add("s3", operation, Elsewhere("eu-central-1"), times=None)
    done = desk.scar("put", "-b", f"{desk.bucket.name}/in", "-p", "a")
    assert done.returncode == 0, f"{done.stderr}\n{desk.proxy.told()}"
    done = desk.scar("get", "-b", f"{desk.bucket.name}/in", "-p", "to")
    assert done.returncode == 0, f"{done.stderr}\n{desk.proxy.told()}"
    assert (desk.folder / "to/in/a").read_bytes() == b"a" * 1000


@pytest.mark.parametrize("fault", [Throttle(), Drop()], ids=repr)
def test_a_service_that_never_answers_well_is_given_up_after_a_few_requests(desk: Desk, fault: Fault) -> None:
    """XF16: the requests are counted; a dozen files share one quota of retries."""
    (desk.folder / "many").mkdir()
    for number in range(12):
        (desk.folder / f"many/{number}").write_text("x")
    desk.proxy.add("s3", "PutObject", fault, times=None)
    began_s = time.monotonic()
    done = desk.scar("put", "-b", desk.bucket.name, "-p", "many")
    assert done.returncode != 0 and time.monotonic() - began_s < 120
    assert len(desk.proxy.calls("s3", "PutObject")) <= 12 * 5
    assert desk.bucket.keys() == []


class Zeros(Loopback):
    """A bucket with one object of `size` zeros, encrypted with a key so that nothing is known of its digest. What is put is counted and dropped."""

    def __init__(self, size: int) -> None:
        self.size, self.received = size, 0

    @property
    def handler(self) -> type[Handler]:
        return _ZerosHandler


class _ZerosHandler(Handler):
    def do_GET(self) -> None:
        size = self.owner.size
        if "list-type" in self.path:
            item = f'<Key>a</Key><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>"e"</ETag><Size>{size}</Size>'
            self.send(200, f"<ListBucketResult><Contents>{item}</Contents></ListBucketResult>".encode())
            return
        first, last = map(int, self.headers.get("Range", f"bytes=0-{size - 1}").removeprefix("bytes=").split("-"))
        self._head(last + 1 - first, {"Content-Range": f"bytes {first}-{last}/{size}"}, 206)
        for start in range(first, last + 1, MIB):
            self.wfile.write(bytes(min(MIB, last + 1 - start)))

    def do_HEAD(self) -> None:
        self._head(self.owner.size, {})

    def do_PUT(self) -> None:
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        left = int(self.headers["Content-Length"])
        self.owner.received += left
        while left:
            left -= len(self.rfile.read(min(left, MIB)))
        self._head(0, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send(200, b"<X><UploadId>u</UploadId></X>")

    def _head(self, length: int, more: dict[str, str], status: int = 200) -> None:
        self.send_response_only(status)
        kms = {"ETag": '"e"', "x-amz-server-side-encryption": "aws:kms", "Content-Length": str(length)}
        for name, value in {**kms, **more}.items():
            self.send_header(name, value)
        self.end_headers()


# A process begins with the peak of the one that it was forked from: that has to be a small one.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@pytest.mark.parametrize("way", ["put", "get"])
def test_memory_stays_bounded_however_large_the_file(tmp_path: Path, request: pytest.FixtureRequest, way: str) -> None:
    """XF13: 5 GB with `--whole`, else a hundred megabytes."""
    size = (5000 if request.config.getoption("--whole") else 100) * MIB
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)
    with Zeros(size) as s3:
        words = ["put", "-b", "b", "-p", "large"] if way == "put" else ["get", "-b", "b/a", "-p", "to"]
        measured = subprocess.run(
            [sys.executable, "-c", MEASURED, sys.executable, "-B", "-m", "scar", *words],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PYTHONPATH": str(ROOT),
                "AWS_ENDPOINT_URL": s3.endpoint,
                **CREDENTIALS,
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert measured.returncode == 0, measured.stderr
    assert s3.received == size if way == "put" else (tmp_path / "to/a").stat().st_size == size
    assert int(measured.stdout) < 250 * 1024
    (tmp_path / "large").unlink()
    (tmp_path / "to/a").unlink(missing_ok=True)
