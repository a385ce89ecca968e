"""Who may ask, and what comes back when something is wrong with how it was asked."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import threading
import zlib

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from local_daemon import Running

from scar.local import checksums
from scar.local.address import caller, is_local_name, s3_address


@pytest.fixture(scope="module")
def bucket(shared: Running) -> str:
    shared.client("s3").create_bucket(Bucket="front")
    return "front"


def ask(
    daemon: Running, method: str, path: str, body: bytes | str | None = None, **headers: str
) -> tuple[int, bytes, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:4566", True),
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("[::1]:4566", True),
        ("bucket.s3.us-east-1.amazonaws.com", True),
        ("bucket.s3.localhost:4566", True),
        ("evil.example.com", False),
        ("127.0.0.1.evil.example.com:4566", False),
        ("localhost.evil.example.com", False),
        ("amazonaws.com.evil.example.com", False),
        ("evilamazonaws.com", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_only_names_of_this_machine_and_of_aws_are_answered(host, ours):
    assert is_local_name(host) == ours


def test_a_rebound_name_gets_403_everywhere_and_no_page_may_read_an_answer(shared, bucket):
    """LO11"""
    for path in ("/", "/_scar/status", "/front?list-type=2", "/v2/"):
        status, _, headers = ask(shared, "GET", path, Host="evil.example.com")
        assert status == 403
    for origin in ("http://evil.example.com", "null", "http://localhost.evil.example.com"):
        for method, path in (
            ("GET", "/_scar/status"),
            ("POST", "/front"),
            ("OPTIONS", "/front/k"),
            ("PUT", "/front/k"),
        ):
            status, _, headers = ask(shared, method, path, Origin=origin)
            assert (status, "access-control-allow-origin" in headers) == (403, False)
    status, _, headers = ask(shared, "GET", "/front?list-type=2", Origin="http://localhost:3000")
    assert (status, headers.get("access-control-allow-origin")) == (200, None)


def test_motos_own_reset_is_closed(shared, bucket):
    assert ask(shared, "POST", "/moto-api/reset")[0] == 404
    shared.client("s3").head_bucket(Bucket=bucket)


def test_an_unknown_page_is_404(shared):
    assert ask(shared, "GET", "/_scar/none")[0] == 404


def test_virtual_hosts_reach_the_bucket(shared, bucket):
    status, _, _ = ask(
        shared,
        "PUT",
        "/virtual",
        b"by name",
        Host="front.s3.localhost",
        Authorization="AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request",
    )
    assert status == 200
    assert shared.client("s3").get_object(Bucket=bucket, Key="virtual")["Body"].read() == b"by name"
    found = s3_address({"PATH_INFO": "/a/b", "HTTP_HOST": "front.s3.us-east-1.amazonaws.com", "QUERY_STRING": "acl"})
    assert (found.bucket, found.key, "acl" in found.query) == ("front", "a/b", True)


def test_the_caller_is_read_from_headers_and_from_presigned_urls():
    signed = {
        "HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/lambda/aws4_request, SignedHeaders=host"
    }
    assert (caller(signed).access_key, caller(signed).region, caller(signed).service) == ("AKIA", "eu-west-1", "lambda")
    presigned = {"QUERY_STRING": "X-Amz-Credential=AKIA%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=x"}
    assert (caller(presigned).region, caller(presigned).service) == ("eu-west-1", "s3")
    assert caller({}).service is None


MD5 = base64.b64encode(hashlib.md5(b"content").digest()).decode()
CRC32 = base64.b64encode(zlib.crc32(b"content").to_bytes(4, "big")).decode()


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ({"ContentMD5": MD5}, None),
        ({"ContentMD5": base64.b64encode(b"x" * 16).decode()}, "BadDigest"),
        ({"ContentMD5": "nonsense"}, "InvalidDigest"),
        ({"ChecksumCRC32": CRC32}, None),
        ({"ChecksumCRC32": "AAAAAA=="}, "BadDigest"),
        ({"ChecksumCRC32": "AAAA"}, "InvalidRequest"),
        ({"ChecksumSHA256": base64.b64encode(hashlib.sha256(b"content").digest()).decode()}, None),
        ({"ChecksumSHA256": base64.b64encode(bytes(32)).decode()}, "BadDigest"),
        ({"ChecksumSHA1": base64.b64encode(hashlib.sha1(b"content").digest()).decode()}, None),
        ({"ChecksumCRC32C": checksums.encoded([b"content"], "CRC32C")}, None),
        ({"ChecksumCRC32C": "AAAAAA=="}, "BadDigest"),
        ({"ChecksumCRC64NVME": checksums.encoded([b"content"], "CRC64NVME")}, None),
        ({"ChecksumCRC64NVME": "AAAAAAAAAAA="}, "BadDigest"),
    ],
)
def test_a_body_that_does_not_match_its_checksum_is_refused(shared, bucket, checks, code):
    s3 = shared.client("s3")
    key = json.dumps(checks)
    if code is None:
        s3.put_object(Bucket=bucket, Key=key, Body=b"content", **checks)
        found = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        assert found["Body"].read() == b"content"
        for name, value in checks.items():
            assert name == "ContentMD5" or found[name] == value
        return
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key=key, Body=b"content", **checks)
    assert refused.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key=key)


@pytest.mark.parametrize(("algorithm", "check"), [("CRC32C", "E3069283"), ("CRC64NVME", "AE8B14860A799888")])
def test_the_checksums_are_the_standard_ones(algorithm, check):
    digest = checksums.digest_for(algorithm)
    digest.update(b"12345")
    digest.update(b"6789")
    assert digest.digest().hex().upper() == check


def chunked(*chunks: bytes, trailer: str = "") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailer.encode() + b"\r\n"


@pytest.mark.parametrize(
    ("trailer", "length", "status"),
    [
        (f"x-amz-checksum-crc32:{CRC32}\r\n", 7, 200),
        ("x-amz-checksum-crc32:AAAAAA==\r\n", 7, 400),
        ("", 7, 200),
        (f"x-amz-checksum-crc32:{CRC32}\r\n", 8, 400),
    ],
)
def test_a_chunked_body_is_decoded_and_its_trailer_checked(shared, bucket, trailer, length, status):
    headers = {
        "Content_Encoding": "gzip,aws-chunked",
        "x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x_amz_trailer": "x-amz-checksum-crc32",
        "x_amz_decoded_content_length": str(length),
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request",
    }
    found, answer, _ = ask(shared, "PUT", "/front/chunked", chunked(b"con", b"tent", trailer=trailer), **headers)
    assert found == status, answer
    if status == 200:
        stored = shared.client("s3").get_object(Bucket=bucket, Key="chunked")
        assert (stored["Body"].read(), stored["ContentEncoding"]) == (b"content", "gzip")


def test_a_payload_that_is_not_what_was_signed_is_refused(shared, bucket):
    headers = {
        "x_amz_content_sha256": "0" * 64,
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request",
    }
    status, answer, _ = ask(shared, "PUT", "/front/signed", b"content", **headers)
    assert (status, b"XAmzContentSHA256Mismatch" in answer) == (400, True)


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ("bytes=0-0", b"0"),
        ("bytes=3-5", b"345"),
        ("bytes=8-", b"89"),
        ("bytes=-3", b"789"),
        ("bytes=0-99", b"0123456789"),
    ],
)
def test_ranges(shared, bucket, wanted, got):
    s3 = shared.client("s3")
    s3.put_object(Bucket=bucket, Key="digits", Body=b"0123456789")
    found = s3.get_object(Bucket=bucket, Key="digits", Range=wanted)
    assert (found["Body"].read(), found["ContentLength"]) == (got, len(got))


def test_a_range_beyond_the_end_is_416(shared, bucket):
    s3 = shared.client("s3")
    s3.put_object(Bucket=bucket, Key="digits", Body=b"0123456789")
    with pytest.raises(ClientError, match="InvalidRange"):
        s3.get_object(Bucket=bucket, Key="digits", Range="bytes=10-")


def test_sixteen_writers_who_may_not_overwrite_have_one_winner(shared, bucket):
    s3, outcomes, start = shared.client("s3"), [], threading.Barrier(16)

    def write(number: int) -> None:
        start.wait()
        try:
            s3.put_object(Bucket=bucket, Key="ledger", Body=b"%d" % number, IfNoneMatch="*")
            outcomes.append(number)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"

    threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert s3.get_object(Bucket=bucket, Key="ledger")["Body"].read() == b"%d" % outcomes[0]


def test_one_connection_carries_many_requests_and_refusals_keep_it_in_step(shared, bucket):
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=10)
    connection.request("GET", "/_scar/ping")
    connection.getresponse().read()
    used = connection.sock
    for _ in range(3):
        connection.request("PUT", "/front/" + "k" * 2000, b"x" * 1000)  # refused before its body is read
        assert connection.getresponse().read().count(b"KeyTooLongError") == 1
        connection.request("GET", "/_scar/ping")
        assert json.loads(connection.getresponse().read())["pid"]
    assert connection.sock is used
    connection.close()


@pytest.mark.parametrize(
    "head", ["Content-Length: -1", "Content-Length: x", "Content-Length: 3\r\nTransfer-Encoding: chunked"]
)
def test_a_body_without_a_clear_end_is_refused(shared, head):
    import socket

    with socket.create_connection(("127.0.0.1", shared.port), timeout=5) as raw:
        raw.sendall(f"PUT /front/k HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\nabc".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_an_upload_that_breaks_off_leaves_nothing(shared, bucket):
    import socket

    with socket.create_connection(("127.0.0.1", shared.port), timeout=5) as raw:
        raw.sendall(b"PUT /front/broken HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
    s3 = shared.client("s3")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="broken")


def test_keys_keep_their_every_byte(shared, bucket):
    s3 = shared.client("s3")
    keys = [
        "a//b",
        "/lead",
        "trail/",
        "sp ace",
        "plus+",
        "per%20cent",
        "día",
        "q?x=1&y",
        "#h",
        "new\nline",
        "..",
        "a/../b",
        "\u202ertl",
    ]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=f"keys/{key}", Body=key.encode())
    for key in keys:
        assert s3.get_object(Bucket=bucket, Key=f"keys/{key}")["Body"].read() == key.encode()


def test_the_aws_command_line_copies_both_ways(shared, bucket, tmp_path):
    import subprocess
    import sys
    from pathlib import Path

    (tmp_path / "in.bin").write_bytes(bytes(range(256)) * 40_000)
    aws = [
        str(Path(sys.executable).with_name("aws")),
        "--endpoint-url",
        f"http://127.0.0.1:{shared.port}",
        "s3",
        "cp",
        "--quiet",
    ]
    environment = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "HOME": str(tmp_path),
    }
    subprocess.run([*aws, str(tmp_path / "in.bin"), "s3://front/cli"], check=True, env=environment)
    subprocess.run([*aws, "s3://front/cli", str(tmp_path / "out.bin")], check=True, env=environment)
    assert (tmp_path / "out.bin").read_bytes() == (tmp_path / "in.bin").read_bytes()


def test_another_region_and_account_are_kept_apart(shared):
    lambda_eu = boto3.client(
        "lambda", endpoint_url=f"http://127.0.0.1:{shared.port}", region_name="eu-west-1", aws_access_key_id="a",
        aws_secret_access_key="b", config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip
    assert lambda_eu.list_functions()["Functions"] == []


def test_a_page_of_tagged_resources_has_as_many_as_were_asked_for(daemon: Running):
    """moto ends a page at a hundred tags, which is ten buckets here."""
    s3, tagging = daemon.client("s3"), daemon.client("resourcegroupstaggingapi")
    for number in range(12):
        s3.create_bucket(Bucket=f"tagged-{number}")
        s3.put_bucket_tagging(
            Bucket=f"tagged-{number}", Tagging={"TagSet": [{"Key": f"k{n}", "Value": "v"} for n in range(10)]}
        )
    asked = {"ResourceTypeFilters": ["s3"], "TagFilters": [{"Key": "k0"}]}
    whole = tagging.get_resources(ResourcesPerPage=100, **asked)
    assert len(whole["ResourceTagMappingList"]) == 12 and "PaginationToken" not in whole
    by_resources = tagging.get_resources(ResourcesPerPage=5, **asked)
    assert len(by_resources["ResourceTagMappingList"]) == 5 and by_resources["PaginationToken"]
    by_tags = tagging.get_resources(TagsPerPage=111, **asked)
    assert len(by_tags["ResourceTagMappingList"]) == 11 and by_tags["PaginationToken"]
