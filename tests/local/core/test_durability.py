"""What was acknowledged is there after the worst kind of end; what was not is absent or whole."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError
from local_daemon import Running, make_function, make_role, watch

ROUNDS = 3


def put_until_killed(daemon: Running, start: int) -> tuple[dict[str, str], set[str]]:
    """50 writers while the daemon is killed at a random moment: (key → MD5 of what was acknowledged, keys that were tried)."""
    s3, acknowledged, tried, dead = daemon.client("s3"), {}, set(), threading.Event()

    def write(writer: int) -> None:
        for number in range(1000):
            key = f"in/{start}-{writer}-{number}"
            content = os.urandom(random.Random(f"{key}").choice((0, 10, 1000, 200_000)))
            tried.add(key)
            try:
                s3.put_object(Bucket="crash", Key=key, Body=content)
            except (BotoCoreError, ClientError):
                return
            acknowledged[key] = hashlib.md5(content).hexdigest()
            if dead.is_set():
                return

    with ThreadPoolExecutor(50) as pool:
        list_of_futures = [pool.submit(write, writer) for writer in range(50)]
        time.sleep(random.uniform(0.2, 0.8))
        daemon.kill()
        dead.set()
        for future in list_of_futures:
            future.result()
    return acknowledged, tried


def test_a_killed_daemon_forgets_no_acknowledged_object_and_no_event_of_one(stopped):
    """LO1."""
    daemon = stopped.start()
    watch(daemon, "crash", make_function(daemon), prefix="in/")
    acknowledged: dict[str, str] = {}
    tried: set[str] = set()
    for round_ in range(ROUNDS):
        more, attempts = put_until_killed(daemon, round_)
        acknowledged |= more
        tried |= attempts
        daemon.start()
    s3 = daemon.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="crash")
    found = {item["Key"]: item for page in pages for item in page.get("Contents", [])}
    assert len(acknowledged) > 50
    assert acknowledged.keys() <= found.keys() <= tried
    for key, item in found.items():
        content = s3.get_object(Bucket="crash", Key=key)["Body"].read()
        assert (
            hashlib.md5(content).hexdigest()
            == item["ETag"].strip('"')
            == acknowledged.get(key, item["ETag"].strip('"'))
        )
    told = [record["s3"]["object"]["key"] for record in daemon.records()]
    assert set(acknowledged) <= set(told)
    assert len(told) == len(set(told))


def test_one_key_with_many_writers_keeps_an_acknowledged_value_after_a_kill(stopped):
    daemon = stopped.start()
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket="race")
    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(
                lambda n: s3.put_object(Bucket="race", Key="k", Body=b"%d" % n, Metadata={"n": str(n)}), range(200)
            )
        )
    before = s3.get_object(Bucket="race", Key="k")
    seen = before["Body"].read()
    daemon.kill()
    after = daemon.start().client("s3").get_object(Bucket="race", Key="k")
    assert after["Body"].read() == seen == after["Metadata"]["n"].encode()


def test_everything_about_a_key_comes_back(stopped):
    """LO1."""
    daemon = stopped.start()
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket="keys")
    s3.put_object(
        Bucket="keys", Key="k", Body=b"one", Metadata={"colour": "grey"}, Tagging="a=1", ContentType="text/plain"
    )
    s3.put_object_tagging(Bucket="keys", Key="k", Tagging={"TagSet": [{"Key": "b", "Value": "2"}]})
    s3.put_object(Bucket="keys", Key="gone", Body=b"x")
    s3.delete_object(Bucket="keys", Key="gone")
    s3.put_object(Bucket="keys", Key="many-1", Body=b"x")
    s3.put_object(Bucket="keys", Key="many-2", Body=b"x")
    s3.delete_objects(Bucket="keys", Delete={"Objects": [{"Key": "many-1"}, {"Key": "many-2"}]})
    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    versions = [s3.put_object(Bucket="versions", Key="v", Body=b"%d" % n)["VersionId"] for n in range(4)]
    s3.delete_object(Bucket="versions", Key="v", VersionId=versions[1])
    s3.delete_object(Bucket="versions", Key="v")
    data = os.urandom(20 << 20)
    s3.upload_fileobj(io.BytesIO(data), "keys", "big")
    s3.copy_object(Bucket="keys", Key="copy", CopySource="keys/big")
    s3.delete_object(Bucket="keys", Key="big")
    daemon.kill()

    s3 = daemon.start().client("s3")
    assert sorted(item["Key"] for item in s3.list_objects_v2(Bucket="keys")["Contents"]) == ["copy", "k"]
    found = s3.get_object(Bucket="keys", Key="k")
    assert (found["Body"].read(), found["Metadata"], found["ContentType"]) == (b"one", {"colour": "grey"}, "text/plain")
    assert s3.get_object_tagging(Bucket="keys", Key="k")["TagSet"] == [{"Key": "b", "Value": "2"}]
    assert s3.get_object(Bucket="keys", Key="copy")["Body"].read() == data
    listed = s3.list_object_versions(Bucket="versions")
    assert [version["VersionId"] for version in listed["Versions"]] == [versions[3], versions[2], versions[0]]
    assert len(listed["DeleteMarkers"]) == 1
    assert s3.get_object(Bucket="versions", Key="v", VersionId=versions[2])["Body"].read() == b"2"


def test_the_control_planes_come_back_and_notifications_still_fire(stopped):
    daemon = stopped.start()
    arn = make_function(daemon, "kept", Environment={"Variables": {"COLOUR": "grey"}}, Timeout=7)
    watch(daemon, "watched", arn, prefix="in/")
    sqs, logs, iam, ecr, sns = (daemon.client(name) for name in ("sqs", "logs", "iam", "ecr", "sns"))
    daemon.client("s3").put_bucket_tagging(Bucket="watched", Tagging={"TagSet": [{"Key": "scar", "Value": "yes"}]})
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="hello")
    logs.create_log_group(logGroupName="/aws/lambda/kept")
    logs.put_retention_policy(logGroupName="/aws/lambda/kept", retentionInDays=7)
    logs.create_log_stream(logGroupName="/aws/lambda/kept", logStreamName="s")
    now = int(time.time() * 1000)
    events = [{"timestamp": now + n, "message": f"line {n}"} for n in range(3)]
    logs.put_log_events(logGroupName="/aws/lambda/kept", logStreamName="s", logEvents=events)
    iam.put_role_policy(
        RoleName="kept-role",
        PolicyName="p",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
        ),
    )
    ecr.create_repository(repositoryName="scar/kept")
    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:queue")
    daemon.kill()

    daemon.start()
    function = daemon.client("lambda").get_function(FunctionName="kept")["Configuration"]
    assert (function["FunctionArn"], function["Timeout"], function["Environment"]["Variables"]) == (
        arn,
        7,
        {"COLOUR": "grey"},
    )
    assert "s3-watched" in daemon.client("lambda").get_policy(FunctionName="kept")["Policy"]
    assert daemon.client("s3").get_bucket_tagging(Bucket="watched")["TagSet"] == [{"Key": "scar", "Value": "yes"}]
    assert daemon.client("iam").list_role_policies(RoleName="kept-role")["PolicyNames"] == ["p"]
    assert daemon.client("ecr").describe_repositories()["repositories"][0]["repositoryName"] == "scar/kept"
    (group,) = daemon.client("logs").describe_log_groups()["logGroups"]
    assert (group["logGroupName"], group["retentionInDays"]) == ("/aws/lambda/kept", 7)
    found = daemon.client("logs").filter_log_events(logGroupName="/aws/lambda/kept")["events"]
    assert [event["message"] for event in found] == ["line 0", "line 1", "line 2"]
    sqs = daemon.client("sqs")
    url = sqs.get_queue_url(QueueName="queue")["QueueUrl"]
    daemon.client("sns").publish(TopicArn=topic, Message="after")
    bodies = [m["Body"] for m in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]]
    assert bodies[0] == "hello"
    assert json.loads(bodies[1])["Message"] == "after"
    before = len(daemon.records())
    daemon.client("s3").put_object(Bucket="watched", Key="in/x", Body=b"1")
    assert len(daemon.records()) == before + 1


def test_a_deleted_bucket_stays_deleted(stopped):
    daemon = stopped.start()
    s3 = daemon.client("s3")
    for name in ("stays", "goes"):
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="k", Body=name.encode())
    s3.delete_object(Bucket="goes", Key="k")
    s3.delete_bucket(Bucket="goes")
    daemon.kill()
    s3 = daemon.start().client("s3")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["stays"]
    s3.create_bucket(Bucket="goes")
    assert s3.list_objects_v2(Bucket="goes")["KeyCount"] == 0


def test_an_unfinished_upload_is_forgotten_with_its_parts(stopped):
    daemon = stopped.start()
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket="unfinished")
    upload = s3.create_multipart_upload(Bucket="unfinished", Key="k")["UploadId"]
    s3.upload_part(Bucket="unfinished", Key="k", UploadId=upload, PartNumber=1, Body=bytes(1000))
    daemon.kill()
    s3 = daemon.start().client("s3")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="unfinished")
    assert [path for path in (daemon.folder / "objects").rglob("*") if path.is_file()] == []


def test_bodies_of_overwritten_and_deleted_objects_leave_the_disk(stopped):
    daemon = stopped.start()
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket="disk")
    for number in range(5):
        s3.put_object(Bucket="disk", Key="k", Body=b"%d" % number)
    s3.put_object(Bucket="disk", Key="gone", Body=b"x")
    s3.delete_object(Bucket="disk", Key="gone")
    assert daemon.stop() == 0
    daemon.start()
    assert len([path for path in (daemon.folder / "objects").rglob("*") if path.is_file()]) == 1


def test_a_full_disk_refuses_the_upload_and_loses_nothing(daemon):
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket="full")
    s3.put_object(Bucket="full", Key="first", Body=b"kept")
    # A limit on the size of files makes the same write fail as a full disk does, and needs no rights.
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (1 << 20, hard))
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket="full", Key="huge", Body=bytes(2 << 20))
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 507
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="full")["Contents"]] == ["first"]
    s3.put_object(Bucket="full", Key="second", Body=b"room again")
    daemon.kill()
    s3 = daemon.start().client("s3")
    assert s3.get_object(Bucket="full", Key="first")["Body"].read() == b"kept"
    assert s3.get_object(Bucket="full", Key="second")["Body"].read() == b"room again"


def test_300_mb_pass_through_in_bounded_memory(daemon):
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket="large")
    before = resident_mib(daemon)
    content = os.urandom(1 << 20) * 300
    digest = hashlib.md5(content).hexdigest()
    answer = s3.put_object(Bucket="large", Key="k", Body=content)
    assert answer["ETag"] == f'"{digest}"'
    started = time.monotonic()
    last = s3.get_object(Bucket="large", Key="k", Range=f"bytes={len(content) - 5}-")["Body"].read()
    assert (last, time.monotonic() - started < 1) == (content[-5:], True)
    downloaded = hashlib.md5()
    for chunk in s3.get_object(Bucket="large", Key="k")["Body"].iter_chunks(1 << 20):
        downloaded.update(chunk)
    assert downloaded.hexdigest() == digest
    s3.upload_fileobj(io.BytesIO(content), "large", "parts", Config=TransferConfig(max_concurrency=4))
    assert peak_mib(daemon) - before < 60


def resident_mib(daemon: Running) -> int:
    assert daemon.process is not None
    return status_mib(daemon.process.pid, "VmRSS")


def peak_mib(daemon: Running) -> int:
    assert daemon.process is not None
    return status_mib(daemon.process.pid, "VmHWM")


def status_mib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(field))


def test_make_role_is_not_lost_between_parallel_changes(stopped):
    daemon = stopped.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: make_role(daemon, f"role-{n}"), range(24)))
    daemon.kill()
    roles = daemon.start().client("iam").list_roles()["Roles"]
    assert {role["RoleName"] for role in roles} == {f"role-{n}" for n in range(24)}
