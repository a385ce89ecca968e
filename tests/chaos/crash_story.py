"""A little of everything that a caller may ask of the local AWS, one request after another, and what must be there after each.

A fact is a name for one thing that can be looked up, with a value; a fact that is absent is None. What was acknowledged gives the facts that
must hold; the one request that is under way may have happened or not, and nothing in between.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from tests.chaos.local_forks import Clients, until
from tests.local.functions.lambda_bench import ACCOUNT, REGION, Local

Facts = dict[tuple[str, ...], Any]
STANDING: Final = ("plain", "versions", "later", "heard")
ARN: Final = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
# The function leaves an object for each event: what it has done is on the disk before its event counts as ended.
LEAVE_A_MARK: Final = r"""
mark=$(sed 's/.*\(mark-[0-9]*\).*/\1/' /tmp/event) at=${AWS_ENDPOINT_URL#http://}
printf 'PUT /heard/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx' "$mark" "$at" | nc "${at%:*}" "${at#*:}" >/tmp/put
"""
ERRORS: Final = (BotoCoreError, ClientError)


class Daemon(Local):
    """Only the client's side of the other tests' Lambda, for a daemon that runs already."""

    def __init__(self, url: str) -> None:
        self.url = url


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("code.py"), "def handler(event, context): pass\n")
    return buffer.getvalue()


ZIPPED: Final = zipped()


def etag(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Step:
    """One request. `holds` is what its acknowledgement promises, `heard` the mark of an event that must then reach the function."""

    name: str
    ask: Callable[[Clients], Any]
    holds: Facts = field(default_factory=dict)
    heard: str | None = None


def prepare(clients: Clients) -> None:
    """What the story takes for granted."""
    local = Daemon(clients.url)
    local.make("hears", LEAVE_A_MARK)
    s3, sqs, events = clients("s3"), clients("sqs"), clients("events")
    clients("lambda").add_permission(
        FunctionName="hears", StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com", SourceAccount=ACCOUNT
    )  # fmt: skip
    for bucket in STANDING:
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    tell(s3, "plain", "in/")
    sqs.create_queue(QueueName="queue")
    events.put_rule(Name="rule", EventPattern='{"source": ["story"]}')
    events.put_targets(Rule="rule", Targets=[{"Id": "queue", "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"}])
    prepare_batch(clients, local.image)


def tell(s3: Any, bucket: str, prefix: str) -> None:
    rule = {
        "Id": "rule",
        "LambdaFunctionArn": f"{ARN}hears",
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}},
    }
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"LambdaFunctionConfigurations": [rule]}
    )


def prepare_batch(clients: Clients, image: str) -> None:
    iam, ec2, batch = clients("iam"), clients("ec2"), clients("batch")
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(
        RoleName="instance", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    iam.create_instance_profile(InstanceProfileName="instance")
    iam.add_role_to_instance_profile(InstanceProfileName="instance", RoleName="instance")
    resources = {
        "type": "EC2", "allocationStrategy": "BEST_FIT_PROGRESSIVE", "minvCpus": 0, "maxvCpus": 1, "instanceTypes": ["optimal"],
        "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "securityGroupIds": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]], "instanceRole": "instance",
    }  # fmt: skip
    batch.create_compute_environment(computeEnvironmentName="ce", type="MANAGED", computeResources=resources)
    until(
        "the environment", lambda: batch.describe_compute_environments()["computeEnvironments"][0]["status"] == "VALID"
    )
    batch.create_job_queue(
        jobQueueName="jobs", priority=1, computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "ce"}]
    )
    until("the queue", lambda: batch.describe_job_queues()["jobQueues"][0]["status"] == "VALID")
    needs = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
    container = {"image": image, "command": ["/bin/sh", "-c", "echo done"], "resourceRequirements": needs}
    batch.register_job_definition(jobDefinitionName="job", type="container", containerProperties=container)


def steps(chance: random.Random) -> list[Step]:
    """The story; the seed decides about contents, not about the order."""
    small, other, large = (chance.randbytes(size) for size in (40, 50, 300_000))
    uploads: list[str] = []
    versions: list[str] = []
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})

    def put(bucket: str, key: str, content: bytes, **more: Any) -> Callable[[Clients], Any]:
        return lambda clients: clients("s3").put_object(Bucket=bucket, Key=key, Body=content, **more)

    def of(key: str, content: bytes | None, bucket: str = "plain") -> Facts:
        return {("object", bucket, key): None if content is None else (etag(content), etag(content))}

    def begin_upload(clients: Clients) -> None:
        uploads.append(clients("s3").create_multipart_upload(Bucket="plain", Key="parts")["UploadId"])

    def upload_part(clients: Clients) -> None:
        clients("s3").upload_part(Bucket="plain", Key="parts", UploadId=uploads[0], PartNumber=1, Body=large)

    def complete(clients: Clients) -> None:
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag(large)}]}
        clients("s3").complete_multipart_upload(Bucket="plain", Key="parts", UploadId=uploads[0], MultipartUpload=parts)

    def put_version(content: bytes) -> Callable[[Clients], Any]:
        return lambda clients: versions.append(put("versions", "v", content)(clients)["VersionId"])

    def send_event(clients: Clients) -> None:
        entry = {"Source": "story", "DetailType": "t", "Detail": '{"mark": "bus-1"}'}
        assert clients("events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    def put_lines(clients: Clients) -> None:
        at = int(time.time() * 1000)
        lines = [{"timestamp": at + n, "message": f"line-{n}"} for n in range(3)]
        clients("logs").put_log_events(logGroupName="group", logStreamName="stream", logEvents=lines)

    composite = f"{hashlib.md5(bytes.fromhex(etag(large)), usedforsecurity=False).hexdigest()}-1"
    many = {"Objects": [{"Key": "small"}, {"Key": "large"}]}
    role = f"arn:aws:iam::{ACCOUNT}:role/runs"
    return [
        Step("put small", put("plain", "small", small), of("small", small)),
        Step("put large", put("plain", "large", large), of("large", large)),
        Step("overwrite", put("plain", "small", other, Tagging="a=1"), of("small", other) | {("tags", "plain", "small"): "a=1"}),
        Step("put with an event", put("plain", "in/mark-1", small), of("in/mark-1", small), heard="mark-1"),
        Step("begin an upload", begin_upload),
        Step("upload a part", upload_part),
        Step("complete it", complete, {("object", "plain", "parts"): (etag(large), composite)}),
        Step("copy", lambda c: c("s3").copy_object(Bucket="plain", Key="copy", CopySource="plain/large"), of("copy", large)),
        Step("tag", lambda c: c("s3").put_object_tagging(Bucket="plain", Key="copy", Tagging={"TagSet": [{"Key": "b", "Value": "2"}]}),
             {("tags", "plain", "copy"): "b=2"}),
        Step("delete one", lambda c: c("s3").delete_object(Bucket="plain", Key="copy"),
             of("copy", None) | {("tags", "plain", "copy"): None}),
        Step("delete two", lambda c: c("s3").delete_objects(Bucket="plain", Delete=many),
             of("small", None) | of("large", None) | {("tags", "plain", "small"): None}),
        Step("first version", put_version(small), {("versions", "v"): (etag(small),)} | of("v", small, "versions")),
        Step("second version", put_version(other), {("versions", "v"): (etag(other), etag(small))} | of("v", other, "versions")),
        Step("delete marker", lambda c: c("s3").delete_object(Bucket="versions", Key="v"),
             {("versions", "v"): ("marker", etag(other), etag(small))} | of("v", None, "versions")),
        Step("delete a version", lambda c: c("s3").delete_object(Bucket="versions", Key="v", VersionId=versions[0]),
             {("versions", "v"): ("marker", etag(other))}),
        Step("notification", lambda c: tell(c("s3"), "later", "in/"), {("notification", "later"): "hears"}),
        Step("put where it was asked for", put("later", "in/mark-2", other), of("in/mark-2", other, "later"), heard="mark-2"),
        Step("create a function", lambda c: c("lambda").create_function(
            FunctionName="made", Runtime="python3.12", Handler="code.handler", Role=role, Code={"ZipFile": ZIPPED}),
             {("function", "made"): "code.handler"}),
        Step("an asynchronous event", lambda c: c("lambda").invoke(FunctionName="hears", InvocationType="Event", Payload=b'"mark-3"'),
             heard="mark-3"),
        Step("send a message", lambda c: c("sqs").send_message(QueueUrl=f"{c.url}/{ACCOUNT}/queue", MessageBody="message-1"),
             {("message", "message-1"): True}),
        Step("put events", send_event, {("message", "bus-1"): True}),
        Step("submit a job", lambda c: c("batch").submit_job(jobName="story", jobQueue="jobs", jobDefinition="job"),
             {("job", "story"): True}),
        Step("make a log group", lambda c: c("logs").create_log_group(logGroupName="group"), {("log group", "group"): True}),
        Step("make a log stream", lambda c: c("logs").create_log_stream(logGroupName="group", logStreamName="stream"),
             {("log stream", "stream"): True}),
        Step("write log lines", put_lines, {("line", f"line-{n}"): True for n in range(3)}),
        Step("make a repository", lambda c: c("ecr").create_repository(repositoryName="story"), {("repository", "story"): ()}),
        Step("push an image", lambda c: c("ecr").put_image(repositoryName="story", imageTag="one", imageManifest=manifest),
             {("repository", "story"): (hashlib.sha256(manifest.encode()).hexdigest(),)}),
        Step("make a bucket", lambda c: c("s3").create_bucket(Bucket="short"), {("bucket", "short"): True}),
        Step("put into it", put("short", "k", small), of("k", small, "short")),
        Step("empty it", lambda c: c("s3").delete_object(Bucket="short", Key="k"), of("k", None, "short")),
        Step("delete the bucket", lambda c: c("s3").delete_bucket(Bucket="short"), {("bucket", "short"): None}),
        Step("a last event", put("plain", "in/mark-4", other), of("in/mark-4", other), heard="mark-4"),
    ]  # fmt: skip


def after(told: list[Step]) -> Facts:
    """The facts after these steps of the story."""
    facts: Facts = {}
    for step in told:
        facts |= step.holds
    return facts


def seen(clients: Clients) -> Facts:
    """All facts, by looking."""
    s3 = clients("s3")
    buckets = {item["Name"] for item in s3.list_buckets()["Buckets"]} - {*STANDING}
    facts: Facts = {("bucket", name): True for name in buckets}
    for bucket in ("plain", "versions", "later", *buckets):
        for item in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            key = item["Key"]
            content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            assert len(content) == item["Size"]
            facts["object", bucket, key] = (etag(content), item["ETag"].strip('"'))
            if tags := s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]:
                facts["tags", bucket, key] = "&".join(f"{tag['Key']}={tag['Value']}" for tag in tags)
    return facts | _versions(s3) | _others(clients)


def _versions(s3: Any) -> Facts:
    answer = s3.list_object_versions(Bucket="versions")
    rows = [(item["LastModified"], item["ETag"].strip('"')) for item in answer.get("Versions", ())]
    for item in answer.get("Versions", ()):
        got = s3.get_object(Bucket="versions", Key=item["Key"], VersionId=item["VersionId"])
        assert etag(got["Body"].read()) == item["ETag"].strip('"')
    markers = ["marker"] * len(answer.get("DeleteMarkers", ()))
    if not rows and not markers:
        return {}
    assert [*answer.get("Versions", ()), *answer.get("DeleteMarkers", ())][-1 if markers else 0]["IsLatest"]
    return {("versions", "v"): (*markers, *(etag_ for _, etag_ in rows))}


def _others(clients: Clients) -> Facts:
    facts: Facts = {}
    asked = clients("s3").get_bucket_notification_configuration(Bucket="later")
    for rule in asked.get("LambdaFunctionConfigurations", ()):
        facts["notification", "later"] = rule["LambdaFunctionArn"].rpartition(":")[2]
    for made in clients("lambda").list_functions()["Functions"]:
        if made["FunctionName"] != "hears":
            facts["function", made["FunctionName"]] = made.get("Handler")
    for text in _messages(clients):
        facts["message", json.loads(text)["detail"]["mark"] if text.startswith("{") else text] = True
    for job in clients("batch").list_jobs(jobQueue="jobs", filters=[{"name": "JOB_NAME", "values": ["*"]}])[
        "jobSummaryList"
    ]:
        facts["job", job["jobName"]] = True
    for repository in clients("ecr").describe_repositories()["repositories"]:
        name = repository["repositoryName"]
        if name == "story":
            images = clients("ecr").list_images(repositoryName=name)["imageIds"]
            facts["repository", name] = tuple(image["imageDigest"].removeprefix("sha256:") for image in images)
    return facts | _log_facts(clients("logs"))


def _messages(clients: Clients) -> Iterator[str]:
    while (
        found := clients("sqs")
        .receive_message(QueueUrl=f"{clients.url}/{ACCOUNT}/queue", MaxNumberOfMessages=10, WaitTimeSeconds=0)
        .get("Messages")
    ):
        yield from (message["Body"] for message in found)


def _log_facts(logs: Any) -> Facts:
    facts: Facts = {}
    for group in logs.describe_log_groups(logGroupNamePrefix="group")["logGroups"]:
        facts["log group", group["logGroupName"]] = True
        for stream in logs.describe_log_streams(logGroupName="group")["logStreams"]:
            facts["log stream", stream["logStreamName"]] = True
        for event in logs.filter_log_events(logGroupName="group")["events"]:
            facts["line", event["message"]] = True
    return facts


def wrong(found: Facts, before: Facts, maybe: Facts) -> dict[tuple[str, ...], Any]:
    """Facts that are neither as before nor as after the step that was under way, each with what it may have been."""
    return {
        fact: (found.get(fact), {before.get(fact), maybe.get(fact)})
        for fact in {*found, *before, *maybe}
        if found.get(fact) not in (before.get(fact), maybe.get(fact))
    }


def heard(clients: Clients) -> set[str]:
    """Marks of the events that the function has run for, this daemon's and those before it."""
    return {item["Key"] for item in clients("s3").list_objects_v2(Bucket="heard").get("Contents", ())}
