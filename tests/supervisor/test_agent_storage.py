"""What arrives is what the event names, byte for byte; what is published is whole; everything else fails with a reason."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest

from faassupervisor.content_types import content_type
from faassupervisor.contract import Storage
from faassupervisor.storage.s3 import split
from tests.supervisor.faults import BottomlessS3, FaultyS3, always, once
from tests.support.faults import Cut, Flip, Headers, Lose, OtherPath, Refuse

COPY = 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/copy"; printf %s "$STORAGE_OBJECT_KEY" > "$TMP_OUTPUT_DIR/key"'
MIB = 1024 * 1024

HOSTILE_KEYS = [
    "in/two words.txt",
    "in/a+b.txt",
    "in/100%.txt",
    "in/%20literal.txt",
    "in/" + unicodedata.normalize("NFC", "über.txt"),
    "in/" + unicodedata.normalize("NFD", "über.txt"),
    "in/emoji-😀.txt",
    'in/it\'s "quoted".txt',
    "in/$(touch pwned)`id`$HOME.txt",
    "in/back\\slash.txt",
    "in/-rf",
    "in/--help",
    "in/*",
    "in/../../etc/passwd",
    "in/..",
    "/leading/slash",
    "in/a//b",
    "in/trailing blanks  ",
    "in/" + "long" * 255 + "x",
    "in/\x1b[31mred",
    "in/a=b;c&d|e<f>g",
]


def is_get_of(part):
    return lambda request: request.method == "GET" and part in request.path


@pytest.fixture
def copier(lab, out):
    return lab.agent(COPY, outputs=out)


def test_a_key_of_any_kind_arrives_as_it_is_and_stays_in_its_directory(copier, bucket):
    """KEY1, KEY2, KEY5, KEY8."""
    for number, key in enumerate(HOSTILE_KEYS):
        content = f"content {number}".encode()
        answer = copier.invoke({"Records": [bucket.put(key, content)]})
        assert answer.error_type is None, (key, answer.body)
        assert answer.document["runs"][0]["key"] == key
        assert bucket.get("out/copy") == content, key
        assert bucket.get("out/key").decode() == key
    assert list(copier.temporary.iterdir()) == []
    assert "\x1b" not in copier.log
    assert [fact["key"] for fact in copier.facts() if fact["fact"] == "staged in"] == HOSTILE_KEYS


def test_a_newline_in_a_key_is_one_more_character(lab, bucket, out):
    bucket.put("in/plain", b"found")
    # moto routes no such path, so another object answers for it.
    rule = always(lambda request: "%0A" in request.path, OtherPath(f"/{bucket.name}/in/plain"))
    with FaultyS3(bucket.endpoint, rule) as s3:
        agent = lab.agent(COPY, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        answer = agent.invoke({"Records": [bucket.record("in/new\nline.txt")]})
    assert answer.error_type is None, answer.body
    assert (bucket.get("out/copy"), bucket.get("out/key")) == (b"found", b"in/new\nline.txt")
    agent.says(r"in/new\nline.txt")


def test_a_name_reaches_the_script_as_one_path_in_a_directory_of_its_own(lab, bucket, out):
    agent = lab.agent(
        'ls -1a "$TMP_INPUT_DIR" | wc -l; test -f "$INPUT_FILE_PATH" && basename -- "$INPUT_FILE_PATH"', outputs=out
    )
    answer = agent.invoke({"Records": [bucket.put("in/script")]})
    assert answer.document["runs"][0]["output"].split() == ["3", "script"]


def test_the_version_that_the_event_names_is_read_even_when_it_is_not_the_latest(copier, bucket):
    """XF5."""
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    first = bucket.put("in/a", b"first")
    bucket.put("in/a", b"second")
    assert copier.invoke({"Records": [first]}).error_type is None
    assert bucket.get("out/copy") == b"first"


def test_an_object_that_was_overwritten_since_the_event_is_not_taken_for_it(copier, bucket):
    """EV6."""
    first = bucket.put("in/a", b"first")
    bucket.put("in/a", b"second")
    answer = copier.invoke({"Records": [first]})
    assert answer.error_type == "StageInFailed"
    assert (
        f"s3://{bucket.name}/in/a cannot be read: it was overwritten after this event"
        in answer.document["errorMessage"]
    )
    assert bucket.keys("out/") == []


def test_an_object_that_is_gone_is_named(copier, bucket):
    """XF4."""
    answer = copier.invoke({"Records": [bucket.record("in/gone")]})
    assert answer.error_type == "StageInFailed"
    assert "in/gone cannot be read: it does not exist" in answer.document["errorMessage"]


def test_an_empty_object_is_an_empty_file(copier, bucket):
    """KEY4."""
    assert copier.invoke({"Records": [bucket.put("in/empty", b"")]}).error_type is None
    assert bucket.get("out/copy") == b""


@pytest.mark.parametrize("cut_after", [0, 1, 3 * MIB // 2, 3 * MIB - 1])
def test_a_body_that_is_cut_once_is_resumed(lab, bucket, out, cut_after):
    content = os.urandom(3 * MIB)
    record = bucket.put("in/a", content)
    with FaultyS3(bucket.endpoint, once(is_get_of("in/a"), Cut(cut_after))) as s3:
        agent = lab.agent(COPY, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        assert agent.invoke({"Records": [record]}).error_type is None
        gets = [request for request in s3.requests if is_get_of("in/a")(request)]
    assert bucket.get("out/copy") == content
    assert len(gets) == 2
    if cut_after > MIB:
        assert re.fullmatch(r"bytes=[1-9]\d+-", gets[1].headers["range"])
        assert gets[1].headers["if-match"].strip('"') == record["s3"]["object"]["eTag"]


def test_a_body_that_is_always_cut_fails_after_a_few_attempts(lab, bucket, out):
    """XF1."""
    record = bucket.put("in/a", bytes(3 * MIB))
    with FaultyS3(bucket.endpoint, always(is_get_of("in/a"), Cut(10))) as s3:
        agent = lab.agent(COPY, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        answer = agent.invoke({"Records": [record]})
        assert s3.count("GET", "in/a") <= 4
    assert answer.error_type == "StageInFailed"
    assert "did not arrive whole in 4 attempts" in answer.document["errorMessage"]
    assert bucket.keys("out/") == []


@pytest.mark.parametrize("upload", [{}, {"ChecksumAlgorithm": "CRC32"}, {"ChecksumAlgorithm": "SHA256"}], ids=str)
def test_one_falsified_byte_is_found_and_the_object_asked_for_again(lab, bucket, out, upload):
    content = os.urandom(2 * MIB)
    record = bucket.put("in/a", content, **upload)
    with FaultyS3(bucket.endpoint, once(is_get_of("in/a"), Flip(MIB))) as s3:
        agent = lab.agent(COPY, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        assert agent.invoke({"Records": [record]}).error_type is None
        assert s3.count("GET", "in/a") == 2
    assert bucket.get("out/copy") == content


def test_content_that_is_always_falsified_is_never_used(lab, bucket, out):
    """XF2."""
    record = bucket.put("in/a", b"good")
    with FaultyS3(bucket.endpoint, always(is_get_of("in/a"), Flip(0))) as s3:
        agent = lab.agent(COPY, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        answer = agent.invoke({"Records": [record]})
    assert answer.error_type == "StageInFailed"
    assert "checksum" in answer.document["errorMessage"].lower()
    assert bucket.keys("out/") == []


def test_an_object_beyond_the_free_space_is_refused_with_both_numbers(lab, bucket, out):
    record = bucket.put("in/a", b"x")
    with FaultyS3(bucket.endpoint, always(is_get_of("in/a"), Headers({"Content-Length": str(2**60)}))) as s3:
        agent = lab.agent(COPY, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        answer = agent.invoke({"Records": [record]})
        assert s3.count("GET", "in/a") == 1
    assert f"has {2**60} bytes and only " in answer.document["errorMessage"]
    assert "ephemeral storage" in answer.document["errorMessage"]


def test_a_refused_read_names_the_missing_permission_and_is_not_repeated(lab, bucket, out):
    record = bucket.put("in/a")
    with FaultyS3(bucket.endpoint, always(is_get_of("in/a"), Refuse(403, "AccessDenied"))) as s3:
        agent = lab.agent(COPY, outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        answer = agent.invoke({"Records": [record]})
        assert s3.count("GET", "in/a") == 1
    assert f"s3://{bucket.name}/in/a cannot be read: access denied" in answer.document["errorMessage"]
    assert "s3:GetObject" in answer.document["errorMessage"]


def test_a_refused_write_names_the_missing_permission_and_what_was_published_before(lab, bucket, out):
    def refuse(request):
        return request.method == "PUT" and request.path.endswith("/b")

    with FaultyS3(bucket.endpoint, always(refuse, Refuse(403, "AccessDenied"))) as s3:
        agent = lab.agent(
            'cd "$TMP_OUTPUT_DIR"; echo 1 > a; echo 2 > b', outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint}
        )
        answer = agent.invoke({})
    assert answer.error_type == "StageOutFailed"
    assert f"s3://{bucket.name}/out/b cannot be written: access denied" in answer.document["errorMessage"]
    assert "s3:PutObject" in answer.document["errorMessage"]
    assert answer.document["runs"][0]["outputs"] == [f"s3://{bucket.name}/out/a"]


def test_an_answer_that_is_lost_is_asked_for_again(lab, bucket, out):
    with FaultyS3(bucket.endpoint, once(lambda request: request.method == "PUT", Lose())) as s3:
        agent = lab.agent('echo 1 > "$TMP_OUTPUT_DIR/a"', outputs=out, environment={"AWS_ENDPOINT_URL": s3.endpoint})
        assert agent.invoke({}).error_type is None
        assert s3.count("PUT") == 2
    assert bucket.get("out/a") == b"1\n"


def test_a_large_output_goes_in_parts_with_its_type(lab, bucket, out):
    agent = lab.agent('head -c 40000000 /dev/zero > "$TMP_OUTPUT_DIR/big.png"', outputs=out)
    assert agent.invoke({}).error_type is None
    head = bucket.client.head_object(Bucket=bucket.name, Key="out/big.png")
    assert (head["ContentLength"], head["ContentType"]) == (40_000_000, "image/png")
    assert head["ETag"].endswith('-3"')


def test_a_part_that_never_arrives_leaves_neither_object_nor_parts(lab, bucket, out):
    def third_part(request):
        return request.method == "PUT" and "partNumber=3" in request.path

    with FaultyS3(bucket.endpoint, always(third_part, Refuse(403, "AccessDenied"))) as s3:
        agent = lab.agent(
            'head -c 40000000 /dev/zero > "$TMP_OUTPUT_DIR/big"',
            outputs=out,
            environment={"AWS_ENDPOINT_URL": s3.endpoint},
        )
        answer = agent.invoke({})
    assert answer.error_type == "StageOutFailed"
    assert bucket.keys("out/") == []
    assert bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []


def test_memory_stays_bounded_however_large_the_object(lab):
    with BottomlessS3(200 * MIB) as s3:
        rule = (Storage("s3", "b", "out"),)
        agent = lab.agent(
            'mv "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"', outputs=rule, environment={"AWS_ENDPOINT_URL": s3.endpoint}
        )
        event = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "b"}, "object": {"key": "large"}},
        }
        answer = agent.invoke({"Records": [event]}, timeout_s=60)
        assert answer.error_type is None, answer.body
        assert s3.received == 200 * MIB
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak_kib < 150 * 1024


def test_every_matching_output_gets_the_file_and_filters_look_at_the_relative_path(lab, bucket):
    """KEY13."""
    rules = (
        Storage("s3", bucket.name, "all"),
        Storage("s3", bucket.name, "images", suffix=(".png", ".jpg")),
        Storage("s3", bucket.name, "", prefix=("sub/",), suffix=(".txt",)),
    )
    agent = lab.agent(
        'cd "$TMP_OUTPUT_DIR"; mkdir sub; : > a.png; : > a.txt; : > sub/b.txt; : > sub/c.jpg', outputs=rules
    )
    assert agent.invoke({}).error_type is None
    assert bucket.keys() == [
        "all/a.png", "all/a.txt", "all/sub/b.txt", "all/sub/c.jpg", "images/a.png", "images/sub/c.jpg", "sub/b.txt",
    ]  # fmt: skip


def test_a_failed_script_publishes_nothing(lab, bucket, out):
    agent = lab.agent('echo half > "$TMP_OUTPUT_DIR/a"; exit 3', outputs=out)
    answer = agent.invoke({})
    assert (answer.error_type, answer.document["exit_code"]) == ("ScriptFailed", 3)
    assert answer.document["errorMessage"] == "script exited with code 3"
    assert bucket.keys() == []


def test_parts_cover_the_object_and_never_exceed_ten_thousand():
    for size in (16 * MIB + 1, 5 * 1024 * MIB, 5 * 1024 * 1024 * MIB):
        parts = split(size)
        assert sum(length for _, _, length in parts) == size
        assert len(parts) <= 10_000
        assert parts[-1][1] + parts[-1][2] == size


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.json", "application/json"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("x/a.HTML", "text/html"),
    ],
)
def test_content_types_are_guessed_from_the_name(name, kind):
    assert content_type(name) == kind
