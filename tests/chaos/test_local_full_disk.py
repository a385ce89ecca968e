"""LO5: a disk without room, or no descriptor left: what is refused says so, nothing that was acknowledged is lost, and it goes on when there is room."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.chaos.local_forks import ENVIRON, Clients, Forks, until
from tests.chaos.small_disks import OnSmallDisk, SmallDisk

KIB = 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk", "8m") as made:
        yield made


def refused(action: Any, **request: Any) -> tuple[int, str]:
    """Status and message of what must not be acknowledged."""
    with pytest.raises(ClientError) as error:
        action(**request)
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"].get("Message", "")


def shown(clients: Clients) -> dict[str, Any]:
    """What whoever looks sees."""
    s3 = clients("s3")
    objects = {
        (bucket["Name"], item["Key"]): s3.get_object(Bucket=bucket["Name"], Key=item["Key"])["Body"].read()
        for bucket in s3.list_buckets()["Buckets"]
        for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ())
    }
    queues = clients("sqs").list_queues().get("QueueUrls", [])
    return {"objects": objects, "queues": sorted(queues), "buckets": [b["Name"] for b in s3.list_buckets()["Buckets"]]}


def test_a_full_disk_refuses_keeps_lets_delete_starts_and_recovers(disk: SmallDisk) -> None:
    """LO5."""
    large = b"l" * (500 * KIB)
    with OnSmallDisk(disk) as local:
        local.start()
        s3, sqs = local.clients("s3"), local.clients("sqs")
        s3.create_bucket(Bucket="bucket")
        for key, content in (("kept", b"kept"), ("large", large), ("changed", b"old")):
            s3.put_object(Bucket="bucket", Key=key, Body=content)
        sqs.create_queue(QueueName="before")
        until("the reserve", (disk.here / "state" / "s3" / "reserve").exists)
        disk.fill()
        assert refused(s3.put_object, Bucket="bucket", Key="new", Body=large)[0] == 507
        status, message = refused(s3.put_object, Bucket="bucket", Key="changed", Body=large)
        assert status == 507
        assert "disk of the local AWS is full" in message
        assert refused(sqs.create_queue, QueueName="after")[0] == 507
        assert s3.get_object(Bucket="bucket", Key="kept")["Body"].read() == b"kept"
        assert s3.get_object(Bucket="bucket", Key="changed")["Body"].read() == b"old"
        assert {item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]} == {"kept", "large", "changed"}
        s3.delete_object(Bucket="bucket", Key="large")
        disk.fill()
        local.kill()

        local.start()
        assert shown(local.clients)["objects"] == {("bucket", "kept"): b"kept", ("bucket", "changed"): b"old"}
        disk.fill()
        assert local.stop() == 0

        local.start()
        assert refused(sqs.create_queue, QueueName="later")[0] == 507
        disk.make_room()
        s3.put_object(Bucket="bucket", Key="new", Body=large)
        saved = disk.here / "state" / "services" / "sqs.snapshot"
        until(
            "what was refused and yet is shown",
            lambda: ("later" in str(shown(local.clients)["queues"])) == (b"later" in saved.read_bytes()),
        )
        before = shown(local.clients)
        assert set(before["objects"]) == {("bucket", "kept"), ("bucket", "changed"), ("bucket", "new")}
        local.kill()
        local.start()
        assert shown(local.clients) == before


def test_a_delete_that_a_full_disk_refused_is_not_undone_by_a_restart_after_it_was_acknowledged(
    disk: SmallDisk,
) -> None:
    """LO5: what could not be written down is not taken for known: asked again, it is written."""
    with OnSmallDisk(disk) as local:
        local.start()
        s3 = local.clients("s3")
        s3.create_bucket(Bucket="bucket")
        for number in range(3):
            s3.put_object(Bucket="bucket", Key=f"{number}", Body=b"x")
        until("the reserve", (disk.here / "state" / "s3" / "reserve").exists)
        (disk.here / "state" / "s3" / "reserve").unlink()
        (disk.here / "state" / "s3" / "reserve").mkdir()  # there is none, and there will be none
        disk.fill()
        gone = set()
        for number in range(3):
            for _ in range(2):
                try:
                    s3.delete_object(Bucket="bucket", Key=f"{number}")
                    gone.add(f"{number}")
                except ClientError as error:
                    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 507
        (disk.here / "state" / "s3" / "reserve").rmdir()
        local.kill()
        disk.make_room()
        local.start()
        left = {item["Key"] for item in s3.list_objects_v2(Bucket="bucket").get("Contents", ())}
        assert not gone & left


QUEUE = """
import json, sys
from pathlib import Path
from scar.local.functions.queue import Again, Ended, EventQueue, GaveUp
folder, filler = Path(sys.argv[1]) / "events", Path(sys.argv[1]) / "filler"
ran = []
class Delivery:
    def may_run(self, event): return True
    def expired(self, event): return False
    def run(self, event, payload):
        ran.append([payload.decode(), event.failures])
        if len(ran) <= 4:
            with open(filler, "ab", buffering=0) as file:
                for size in (65536, 4096, 1):
                    try:
                        while file.write(b"x" * size) == size: pass
                    except OSError: pass
        return Again(0.01, "again", counted=True) if event.failures < 1 else GaveUp("enough")
queue = EventQueue(folder, Delivery(), workers=2, tell=lambda line: print(json.dumps(line), flush=True))
for name in ("a", "b", "c", "d"):
    queue.dispatch(queue.accept("f", name.encode(), account="1", region="r"))
queue.start()
sys.stdin.readline()
filler.unlink()
sys.stdin.readline()
print(json.dumps([sorted(ran), len(queue.failed()), [path.name for path in folder.glob("*.*")]]), flush=True)
queue.stop()
"""


def test_events_whose_end_a_full_disk_does_not_take_hold_up_no_other_and_run_not_twice_for_it(disk: SmallDisk) -> None:
    """LO5, LO18: two workers, four failures that cannot be noted: both go on, and what is noted in the end is the whole truth."""
    program = disk.argv([sys.executable, "-c", QUEUE, str(disk.folder)])
    with subprocess.Popen(program, env=ENVIRON, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as queue:
        assert queue.stdin is not None and queue.stdout is not None
        for _ in range(4):
            assert "could not be written down" in queue.stdout.readline()
        queue.stdin.write("room\n")
        queue.stdin.flush()
        until("every end", lambda: len(list((disk.here / "events" / "failed").glob("*.event"))) == 4)
        queue.stdin.write("end\n")
        queue.stdin.flush()
        *_, last = queue.stdout.read().splitlines()
    ran, failed, left = json.loads(last)
    assert ran == [[name, failures] for name in "abcd" for failures in (0, 1)]
    assert (failed, left) == (4, [])


def test_a_daemon_out_of_descriptors_refuses_and_serves_again_when_there_are_some(tmp_path: Path) -> None:
    """LO5: connections take them all; what was acknowledged is there, and nothing is held for ever."""
    with Forks() as forks, ExitStack() as open_:
        taken = Path("/proc", str(forks.start(tmp_path / "state", open_files=64)), "fd")
        s3 = forks.clients("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="before", Body=b"x")
        for _ in range(80):
            open_.enter_context(socket.create_connection(("127.0.0.1", forks.clients.port)))
        until("the last descriptor is taken", lambda: len(list(taken.iterdir())) == 64)
        status, _ = refused(s3.put_object, Bucket="bucket", Key="refused", Body=b"x")
        assert status == 500
        open_.close()

        def put() -> bool:
            try:
                s3.put_object(Bucket="bucket", Key="after", Body=b"y")
            except ClientError:
                return False
            return True

        until("descriptors", put)
        forks.kill()
        forks.start(tmp_path / "state")
        assert {item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]} == {"before", "after"}
