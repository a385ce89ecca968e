"""Each upload is told once, as AWS tells it."""

from __future__ import annotations

import http.client
import io
import json
import re
from urllib.parse import unquote_plus, urlsplit

import pytest
from local_daemon import Running, make_function, watch

AWKWARD = "in/día ñ+(1) & %20 #?;=@,.txt"


@pytest.fixture(scope="module")
def told(shared: Running) -> Running:
    arn = make_function(shared)
    watch(shared, "events", arn, prefix="in/", suffix="")
    watch(shared, "versioned", arn)
    shared.client("s3").put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    watch(shared, "suffixed", arn, suffix=".jpg")
    return shared


def new_records(daemon: Running, before: int) -> list[dict]:
    return daemon.records()[before:]


@pytest.fixture
def before(told: Running) -> int:
    return len(told.records())


def test_a_put_is_one_event_with_every_field_aws_sends(told, before):
    answer = told.client("s3").put_object(
        Bucket="events", Key=AWKWARD, Body=b"hello", Metadata={"a": "b"}, Tagging="x=y"
    )
    (record,) = new_records(told, before)
    assert record["eventVersion"] == "2.5"
    assert record["eventSource"] == "aws:s3"
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["awsRegion"] == "us-east-1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["eventTime"])
    assert record["userIdentity"]["principalId"]
    assert record["requestParameters"] == {"sourceIPAddress": "127.0.0.1"}
    assert (
        record["responseElements"]["x-amz-request-id"] == answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"]
    )
    s3 = record["s3"]
    assert s3["configurationId"] == "rule"
    assert s3["bucket"] == {
        "name": "events",
        "ownerIdentity": {"principalId": "123456789012"},
        "arn": "arn:aws:s3:::events",
    }
    assert unquote_plus(s3["object"]["key"]) == AWKWARD
    assert s3["object"]["key"].startswith("in/d%C3%ADa+%C3%B1%2B")
    assert (s3["object"]["size"], s3["object"]["eTag"]) == (5, "5d41402abc4b2a76b9719d911017c592")
    assert re.fullmatch(r"[0-9A-F]{18}", s3["object"]["sequencer"])
    assert "versionId" not in s3["object"]


def test_a_multipart_upload_is_one_event(told, before):
    s3 = told.client("s3")
    s3.upload_fileobj(io.BytesIO(bytes(20 << 20)), "events", "in/big.bin")
    (record,) = new_records(told, before)
    assert record["eventName"] == "ObjectCreated:CompleteMultipartUpload"
    assert record["s3"]["object"]["size"] == 20 << 20
    assert record["s3"]["object"]["eTag"].endswith("-3")


def test_a_copy_is_one_event(told, before):
    s3 = told.client("s3")
    s3.put_object(Bucket="events", Key="elsewhere", Body=b"1")
    s3.copy_object(Bucket="events", Key="in/copy", CopySource="events/elsewhere")
    (record,) = new_records(told, before)
    assert record["eventName"] == "ObjectCreated:Copy"


def test_a_presigned_put_is_one_event(told, before):
    url = urlsplit(told.client("s3").generate_presigned_url("put_object", {"Bucket": "events", "Key": "in/presigned"}))
    connection = http.client.HTTPConnection("127.0.0.1", told.port)
    # curl's default content type, which moto's dispatcher would read as a form
    connection.request(
        "PUT", f"{url.path}?{url.query}", b"\xff\x00=&", {"Content-Type": "application/x-www-form-urlencoded"}
    )
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()
    (record,) = new_records(told, before)
    assert (record["eventName"], record["s3"]["object"]["size"]) == ("ObjectCreated:Put", 4)
    assert told.client("s3").get_object(Bucket="events", Key="in/presigned")["Body"].read() == b"\xff\x00=&"


def test_a_browser_form_is_one_event(told, before):
    post = told.client("s3").generate_presigned_post("events", "in/form.txt")
    parts = [f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in post["fields"].items()]
    parts.append('--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nformed\r\n--b--\r\n')
    connection = http.client.HTTPConnection("127.0.0.1", told.port)
    connection.request(
        "POST", urlsplit(post["url"]).path, "".join(parts), {"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert connection.getresponse().status == 204
    connection.close()
    (record,) = new_records(told, before)
    assert (record["eventName"], record["s3"]["object"]["size"]) == ("ObjectCreated:Post", 6)


def test_other_prefixes_and_suffixes_are_not_told(told, before):
    s3 = told.client("s3")
    s3.put_object(Bucket="events", Key="out/x", Body=b"1")
    s3.put_object(Bucket="suffixed", Key="x.png", Body=b"1")
    assert new_records(told, before) == []
    s3.put_object(Bucket="suffixed", Key="x.jpg", Body=b"1")
    assert len(new_records(told, before)) == 1


def test_a_versioned_bucket_names_the_version(told, before):
    s3 = told.client("s3")
    version = s3.put_object(Bucket="versioned", Key="k", Body=b"1")["VersionId"]
    (record,) = new_records(told, before)
    assert record["s3"]["object"]["versionId"] == version


def test_sequencers_rise(told, before):
    s3 = told.client("s3")
    for number in range(20):
        s3.put_object(Bucket="events", Key="in/same", Body=b"%d" % number)
    sequencers = [record["s3"]["object"]["sequencer"] for record in new_records(told, before)]
    assert len(sequencers) == 20
    assert sequencers == sorted(set(sequencers))


def test_a_refused_put_is_not_told(told, before):
    s3 = told.client("s3")
    with pytest.raises(s3.exceptions.ClientError, match="BadDigest"):
        s3.put_object(Bucket="events", Key="in/bad", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    s3.put_object(Bucket="events", Key="in/once", Body=b"x", IfNoneMatch="*")
    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="events", Key="in/once", Body=b"y", IfNoneMatch="*")
    assert [record["s3"]["object"]["key"] for record in new_records(told, before)] == ["in/once"]


def test_an_event_is_accepted_before_the_answer_and_dispatched_after_it(told):
    told.client("s3").put_object(Bucket="events", Key="in/order", Body=b"x")
    rows = [json.loads(line) for line in (told.folder / "recorded.jsonl").read_text().splitlines()]
    accepted = [row["token"] for row in rows if row["call"] == "accept"]
    assert accepted  # on disk already, and the answer came only then
    told.client("s3").head_object(Bucket="events", Key="in/order")
    assert [row["token"] for row in told.recorded("dispatch")] == accepted


def test_a_queue_and_a_removal_are_told_too(told):
    sqs, s3 = told.client("sqs"), told.client("s3")
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.create_bucket(Bucket="to-queue")
    s3.put_bucket_notification_configuration(
        Bucket="to-queue",
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
        },
    )
    s3.put_object(Bucket="to-queue", Key="k", Body=b"1")
    s3.delete_object(Bucket="to-queue", Key="k")
    bodies = [
        json.loads(message["Body"])
        for _ in range(3)
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    ]
    assert bodies[0]["Event"] == "s3:TestEvent"
    created, removed = (body["Records"][0] for body in bodies[1:])
    assert (created["eventName"], removed["eventName"]) == ("ObjectCreated:Put", "ObjectRemoved:Delete")
    assert "size" not in removed["s3"]["object"]
