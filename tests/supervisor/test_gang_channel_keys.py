"""What a node knows of itself, what it tells the board, and the keys that two nodes find: by the standards' own values where there are any."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from fractions import Fraction
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from faassupervisor.contract import Gang
from faassupervisor.environ import instance_ip
from faassupervisor.errors import AgentError
from faassupervisor.nodes.board import BoardError, Entry, StateBoard, in_words
from faassupervisor.nodes.keys import PRIME, Keys, Meeting, Secret, agree, expand, extract
from faassupervisor.nodes.node import Node, node_of
from faassupervisor.state import State
from tests.supervisor.conftest import Bucket
from tests.supervisor.faults import FaultyS3, Request, always, once
from tests.support.faults import Fault, Lose, Refuse

MAIN = {
    "AWS_BATCH_JOB_ID": "0a1b-2c3d",
    "AWS_BATCH_JOB_ATTEMPT": "2",
    "AWS_BATCH_JOB_NUM_NODES": "3",
    "AWS_BATCH_JOB_NODE_INDEX": "1",
    "AWS_BATCH_JOB_MAIN_NODE_INDEX": "1",
    "SCAR_NODE_ADDRESS": "127.0.1.2",
    "SCAR_GANG": '{"schema":1,"slots":4,"start_timeout_s":30,"input_on_workers":true}',
}
WORKER = {**MAIN, "AWS_BATCH_JOB_NODE_INDEX": "2", "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "10.0.0.1"}


def test_the_prime_is_the_one_of_rfc_7919() -> None:
    """By its definition: 2^2048 - 2^1984 + (floor(2^1918 e) + 560316) 2^64 - 1."""
    e = sum((Fraction(1, math.factorial(n)) for n in range(300)), Fraction(0))
    assert 2**2048 - 2**1984 + (math.floor(2**1918 * e) + 560316) * 2**64 - 1 == PRIME


@pytest.mark.parametrize(
    ("secret", "salt", "info", "length", "found"),
    [
        ("0b" * 22, "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9", 42,
         "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
        ("0b" * 22, "", "", 42, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    ],
    ids=["RFC 5869 A.1", "RFC 5869 A.3"],
)  # fmt: skip
def test_keys_are_drawn_out_as_rfc_5869_says(secret: str, salt: str, info: str, length: int, found: str) -> None:
    drawn = expand(extract(bytes.fromhex(salt), bytes.fromhex(secret)), bytes.fromhex(info), length)
    assert drawn.hex() == found


def test_both_nodes_find_the_same_and_a_third_one_does_not() -> None:
    one, other, third = Secret(), Secret(), Secret()
    assert one.shared(other.public) == other.shared(one.public)
    assert len({one.shared(other.public), third.shared(other.public), third.shared(one.public)}) == 3


@pytest.mark.parametrize("value", [-1, 0, 1, PRIME - 1, PRIME, PRIME + 2])
def test_a_value_that_makes_the_secret_guessable_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="not a public value"):
        Secret().shared(value)


MEETING = Meeting("job", 1, 0, 1, 5, 7, b"n" * 32, b"m" * 32)


@pytest.mark.parametrize("changed", [field.name for field in dataclasses.fields(Meeting)])
def test_whatever_differs_between_two_meetings_gives_other_keys(changed: str) -> None:
    """MP9: the attempt is one of it."""
    value = getattr(MEETING, changed)
    other = dataclasses.replace(
        MEETING, **{changed: value + (1 if isinstance(value, int) else type(value)() or value[:1])}
    )
    one, two = agree(b"s" * 256, MEETING), agree(b"s" * 256, other)
    assert not {*all_of(one)} & {*all_of(two)}
    assert len({*all_of(one)}) == 4


def all_of(found: Any) -> tuple[bytes, ...]:
    return (found.of_main.sending, found.of_main.receiving, found.proof_of_main, found.proof_of_worker)


def test_keys_are_not_shown() -> None:
    """MP11"""
    found = agree(b"s" * 256, MEETING)
    assert repr(found) == "Agreement(of_main=Keys())"
    assert found.of_main.turned() == Keys(found.of_main.receiving, found.of_main.sending)


def test_a_node_is_read_from_the_variables_of_batch() -> None:
    """T1-20"""
    gang = Gang(slots=4, start_timeout_s=30, input_on_workers=True)
    main, worker = node_of(MAIN), node_of(WORKER)
    assert main == Node(1, 3, 1, "0a1b-2c3d", 2, "127.0.1.2", None, gang)
    assert worker == Node(2, 3, 1, "0a1b-2c3d", 2, "127.0.1.2", "10.0.0.1", gang)
    assert (main.is_main, worker.is_main) == (True, False)


def test_without_batch_s_variables_there_is_no_node() -> None:
    assert node_of({"AWS_BATCH_JOB_ID": "0a1b", "AWS_BATCH_JOB_ATTEMPT": "1", "SCAR_GANG": "{"}) is None


def test_the_job_is_the_same_whether_batch_names_it_or_its_node() -> None:
    assert node_of({**WORKER, "AWS_BATCH_JOB_ID": "0a1b-2c3d#2"}) == node_of(WORKER)


def test_what_is_not_said_is_found_or_has_a_default() -> None:
    said = {**MAIN}
    del said["SCAR_NODE_ADDRESS"], said["SCAR_GANG"], said["AWS_BATCH_JOB_ATTEMPT"]
    found = node_of(said)
    assert found is not None
    assert (found.address, found.gang, found.attempt) == (instance_ip(), Gang(), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_BATCH_JOB_NUM_NODES", "0"),
        ("AWS_BATCH_JOB_NUM_NODES", "1001"),
        ("AWS_BATCH_JOB_NUM_NODES", ""),
        ("AWS_BATCH_JOB_NODE_INDEX", "3"),
        ("AWS_BATCH_JOB_NODE_INDEX", "-1"),
        ("AWS_BATCH_JOB_NODE_INDEX", "٣"),
        ("AWS_BATCH_JOB_MAIN_NODE_INDEX", "3"),
        ("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS", ""),
        ("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS", "fd00::1"),
        ("AWS_BATCH_JOB_ID", ""),
        ("AWS_BATCH_JOB_ID", "../x"),
        ("AWS_BATCH_JOB_ATTEMPT", "one"),
        ("SCAR_NODE_ADDRESS", "127.1"),
        ("SCAR_GANG", '{"schema":99}'),
    ],
)
def test_variables_that_cannot_be_a_node_s_are_named(name: str, value: str) -> None:
    with pytest.raises(AgentError, match=rf"^{name}"):
        node_of({**WORKER, name: value})


@pytest.mark.parametrize(
    ("indexes", "said"),
    [
        ([2], "node 2"), ([5, 2], "nodes 2 and 5"), ([1, 2], "nodes 1 and 2"), ([0, 1, 2], "nodes 0 to 2"),
        ([0, 1, 2, 3, 7, 9], "nodes 0 to 3, 7 and 9"), ([1, 3, 4, 6, 7, 8], "nodes 1, 3, 4 and 6 to 8"),
    ],
)  # fmt: skip
def test_nodes_are_named_in_words(indexes: list[int], said: str) -> None:
    assert in_words(indexes) == said


ENTRY = Entry(public=Secret().public, address="10.0.0.1", slots=0, architecture="x86_64", port=4711)
DOCUMENT = json.loads(ENTRY.to_json())


@functools.cache
def session() -> botocore.session.Session:
    return botocore.session.Session()


def impatient(endpoint: str) -> Any:
    """It asks once."""
    return session().create_client(
        "s3", region_name="us-east-1", endpoint_url=endpoint, aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="canary-secret", config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )  # fmt: skip


def board(bucket: Bucket, endpoint: str | None = None, **job: Any) -> StateBoard:
    """Asked at a faulty `endpoint` or else at S3 itself."""
    client = impatient(endpoint) if endpoint else bucket.client
    return StateBoard(State(client, f"s3://{bucket.name}/functions/f/"), **{"job_id": "job", "attempt": 1, **job})


def test_what_a_node_posts_is_read_by_its_gang_only_and_then_cleared(bucket: Bucket) -> None:
    """MP9, MP11, MP12: another attempt and another job have boards of their own; nothing is left, of earlier attempts neither (MP5)."""
    mine = board(bucket)
    assert mine.read(0) is None
    mine.post(0, ENTRY)
    mine.post(12, dataclasses.replace(ENTRY, port=None))
    assert bucket.keys() == ["functions/f/gangs/job/1/0", "functions/f/gangs/job/1/12"]
    assert (mine.read(0), mine.read(12)) == (ENTRY, dataclasses.replace(ENTRY, port=None))
    later, other = board(bucket, attempt=2), board(bucket, job_id="job2")
    assert (later.read(0), other.read(0)) == (None, None)
    later.post(1, ENTRY)
    mine.clear(range(20))
    assert bucket.keys() == ["functions/f/gangs/job/2/1"]
    mine.post(0, ENTRY)
    later.clear(range(2))
    assert not bucket.keys()
    assert set(DOCUMENT) == {"public", "address", "slots", "architecture", "port"}


def test_an_entry_that_may_not_be_read_is_taken_for_one_that_is_not_there(bucket: Bucket) -> None:
    """S3 says 403 instead of 404 to a role that may not list the bucket."""
    denied = Refuse(403, "AccessDenied")
    with FaultyS3(bucket.endpoint, once(lambda request: request.method == "GET", denied)) as s3:
        asked = board(bucket, s3.endpoint)
        asked.post(0, ENTRY)
        assert asked.read(0) is None
        assert asked.read(0) == ENTRY


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Refuse(503, "SlowDown"), "SlowDown"), (Lose(), "onnection"), (Refuse(404, "NoSuchBucket"), "NoSuchBucket")],
    ids=["busy", "lost", "no bucket"],
)  # fmt: skip
def test_a_board_that_cannot_be_asked_says_why_and_where(bucket: Bucket, fault: Fault, reason: str) -> None:
    def anything(_: Request) -> bool:
        return True

    with FaultyS3(bucket.endpoint, always(anything, fault)) as s3:
        asked = board(bucket, s3.endpoint)
        with pytest.raises(
            BoardError, match=rf"^s3://{bucket.name}/functions/f/gangs/job/1/3 cannot be read: .*{reason}"
        ):
            asked.read(3)
        with pytest.raises(
            BoardError, match=rf"^s3://{bucket.name}/functions/f/gangs/job/1/3 cannot be written: .*{reason}"
        ):
            asked.post(3, ENTRY)
        with pytest.raises(
            BoardError, match=rf"^s3://{bucket.name}/functions/f/gangs/job/1/ cannot be removed: .*{reason}"
        ):
            asked.clear([3])


def test_a_role_that_may_not_write_is_told_so(bucket: Bucket) -> None:
    denied = Refuse(403, "AccessDenied")
    with FaultyS3(bucket.endpoint, always(lambda request: request.method == "PUT", denied)) as s3:
        with pytest.raises(BoardError, match="/gangs/job/1/0 cannot be written: AccessDenied: as the test wants"):
            board(bucket, s3.endpoint).post(0, ENTRY)


BAD = {
    "no JSON": b"x",
    "no object": b"[]",
    "empty": b"{}",
    **{
        f"{name} {value!r:.20}": json.dumps({**DOCUMENT, name: value}).encode()
        for name, value in (
            ("public", "1"), ("public", "0"), ("public", f"{PRIME:x}"), ("public", f"{PRIME - 1:x}"), ("public", -5), ("public", "0x5"),
            ("public", "f" * 513), ("address", "10.0.0"), ("address", None), ("address", "a\0"), ("port", 0), ("port", 65536), ("port", True),
            ("port", "80"), ("slots", -1), ("slots", 10**6), ("slots", 1.5), ("slots", None), ("architecture", ""), ("architecture", "a b"),
            ("architecture", "a\n"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_no_node_has_written_is_no_entry(text: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        Entry.from_json(text)


@pytest.mark.parametrize(
    "text", [b"{}", b" " * 2048 + ENTRY.to_json(), b"[" * 2000], ids=["empty", "too long", "nested"]
)
def test_an_object_that_is_no_entry_is_refused_by_its_name(bucket: Bucket, text: bytes) -> None:
    bucket.put("functions/f/gangs/job/1/0", text)
    with pytest.raises(BoardError, match=r"^s3://.*/functions/f/gangs/job/1/0 is no entry of a node: "):
        board(bucket).read(0)


def test_an_entry_holds_nothing_but_a_few_hundred_bytes() -> None:
    assert len(ENTRY.to_json()) < 700
    assert Entry.from_json(ENTRY.to_json()) == ENTRY
