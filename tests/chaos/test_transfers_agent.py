"""Whatever breaks between the agent and S3: is what the script reads, and what is published, whole and right, or not there at all?

One agent stands before one proxy in each sweep. Every point is an object of its own; the message of a failing one names it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from faassupervisor.contract import Storage
from tests.chaos.choice import Choice
from tests.supervisor.conftest import Agent, Bucket, Lab, bucket, lab, out, s3_client, s3_endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import (
    WRONG_ETAG,
    Cut,
    Drop,
    Elsewhere,
    Empty,
    ErrorInside,
    Fault,
    Flip,
    Lose,
    Refuse,
    Then,
    Throttle,
)

__all__ = ["bucket", "lab", "out", "s3_client", "s3_endpoint"]

MIB = 1 << 20
COPY = 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"'
PARTS = 'truncate -s 68M "$TMP_OUTPUT_DIR/large"; printf end >> "$TMP_OUTPUT_DIR/large"'  # five parts
TWO_PARTS = PARTS.replace("68M", "16M")
TWO_PARTS_BYTES = 16 * MIB + 3
PLACES = ("byte 0", "byte 1", "half", "last")


def place(where: str, length: int) -> int:
    """The byte of a body of `length` bytes that a place of a sweep means."""
    return {"byte 0": 0, "byte 1": 1, "half": length // 2, "last": length - 1}[where]


@contextmanager
def before(lab: Lab, bucket: Bucket, script: str, rules: Sequence[Storage]) -> Iterator[tuple[FaultProxy, Agent]]:
    with FaultProxy(bucket.endpoint) as proxy:
        agent = lab.agent(script, outputs=rules, environment={"AWS_ENDPOINT_URL": proxy.endpoint})
        yield proxy, agent
        assert agent.process.poll() is None, agent.log
        assert "Traceback" not in agent.log
        assert list(agent.temporary.iterdir()) == []


def in_turn(proxy: FaultProxy, operation: str, faults: Sequence[Fault]) -> None:
    """The first request of an operation gets the first fault, the second the second, and so on."""
    proxy.rules.clear()
    proxy.story.clear()
    for number, fault in enumerate(faults):
        proxy.add("s3", operation, fault, skip=number)


def of_every_three(size: int) -> list[tuple[tuple[str, ...], list[Fault]]]:
    """Cuts of the first answer, of the first two, of the first three: each at each place of what was still to come."""
    points = []
    for count in (1, 2, 3):
        for places in itertools.product(PLACES, repeat=count):
            left, faults = size, []
            for where in places:
                after = place(where, left)
                faults.append(Cut(after))
                left -= after
            points.append((places, list(faults)))
    return points


def test_a_body_that_is_cut_anywhere_and_its_rest_again_arrives_whole(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...], choice: Choice
) -> None:
    """XF1."""
    content = os.urandom(2 * MIB + 5)
    with before(lab, bucket, COPY, out) as (proxy, agent):
        for number, (places, cuts) in enumerate(choice.of("cuts of the agent", of_every_three(len(content)), 8)):
            in_turn(proxy, "GetObject", cuts)
            answer = agent.invoke({"Records": [bucket.put(f"in/{number}", content)]})
            assert answer.error_type is None, f"{places}: {answer.body!r}\n{proxy.told()}"
            assert bucket.get(f"out/{number}") == content, f"{places}\n{proxy.told()}"
            asked = [call for call in proxy.calls("s3", "GetObject") if call.path.endswith(f"/in/{number}")]
            assert len(asked) <= len(cuts) + 1, f"{places}\n{proxy.told()}"


@pytest.mark.parametrize("upload", [{}, {"ChecksumAlgorithm": "CRC32"}, {"ChecksumAlgorithm": "SHA256"}], ids=str)
def test_one_wrong_bit_in_any_range_is_found_and_all_of_it_asked_for_again(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...], choice: Choice, upload: dict[str, str]
) -> None:
    """XF2: in the only answer, or in the rest of one that was cut."""
    content = os.urandom(MIB + 7)
    points = [(cut, flip) for cut in (None, *PLACES[1:]) for flip in PLACES]
    with before(lab, bucket, COPY, out) as (proxy, agent):
        for number, (cut, flip) in enumerate(choice.of(f"flips {upload}", points, 4)):
            left = len(content) if cut is None else len(content) - place(cut, len(content))
            spoiled: list[Fault] = [Flip(place(flip, left))]
            if cut is not None:
                spoiled.insert(0, Cut(place(cut, len(content))))
            in_turn(proxy, "GetObject", spoiled)
            answer = agent.invoke({"Records": [bucket.put(f"in/{number}", content, **upload)]})
            point = f"cut at {cut}, flipped at {flip}"
            assert answer.error_type is None, f"{point}: {answer.body!r}\n{proxy.told()}"
            assert bucket.get(f"out/{number}") == content, f"{point}\n{proxy.told()}"
        in_turn(proxy, "GetObject", [])
        proxy.add("s3", "GetObject", Flip(-1), times=None)
        answer = agent.invoke({"Records": [bucket.put("in/always", content, **upload)]})
        assert answer.error_type == "StageInFailed"
        assert "hecksum" in answer.document["errorMessage"]
        assert "always" not in " ".join(bucket.keys("out/"))


def test_an_object_that_is_overwritten_while_it_comes_is_never_a_mixture(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF3: where versions are kept the event's version goes on to come; where they are not, it is told what happened."""
    old, new = os.urandom(2 * MIB), os.urandom(2 * MIB)
    with before(lab, bucket, COPY, out) as (proxy, agent):
        for versioned in (False, True):
            if versioned:
                bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
            record = bucket.put("in/a", old)
            in_turn(proxy, "GetObject", [Cut(MIB)])
            proxy.add("s3", "GetObject", Then(lambda: None), skip=1)
            overwrite = lambda: bucket.put("in/a", new)  # noqa: E731
            proxy.rules.insert(0, _Before("GetObject", 2, overwrite))
            answer = agent.invoke({"Records": [record]})
            if versioned:
                assert answer.error_type is None, answer.body
                assert bucket.get("out/a") == old
            else:
                assert answer.error_type == "StageInFailed"
                assert "it was overwritten after this event" in answer.document["errorMessage"]
                assert bucket.keys("out/") == []


class _Before:
    """A rule that breaks nothing: it does something before the n-th request of an operation is forwarded."""

    def __init__(self, operation: str, number: int, call: Callable[[], Any]) -> None:
        self.operation, self.left, self.call = operation, number, call

    def take(self, request: Any) -> None:
        if request.operation == self.operation:
            self.left -= 1
            if self.left == 0:
                self.call()


def refused(lab: Lab, bucket: Bucket, out: tuple[Storage, ...], faults: dict[str, Fault], **of_spec: Any) -> Any:
    """What the agent says of each fault of its only read, and how often it asked."""
    said = {}
    with before(lab, bucket, COPY, out) as (proxy, agent):
        for name, fault in faults.items():
            record = bucket.put(f"in/{name}")
            in_turn(proxy, "GetObject", [])
            proxy.add("s3", "GetObject", fault, times=None)
            answer = agent.invoke({"Records": [record]})
            assert answer.error_type == "StageInFailed", name
            assert len([call for call in proxy.calls("s3", "GetObject") if f"/in/{name}" in call.path]) == 1, name
            said[name] = answer.document["errorMessage"]
            assert f"s3://{bucket.name}/in/{name} cannot be read" in said[name]
        facts = [fact for fact in agent.facts() if fact["fact"] == "a record failed"]
        assert len(facts) == len(faults)
    assert bucket.keys("out/") == []
    return said


def test_what_s3_refuses_to_give_is_asked_for_once_and_its_cause_and_setting_are_named(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF4, XF14, XF15."""
    kms = "User: arn:aws:sts::123456789012:assumed-role/r is not authorized to perform: kms:Decrypt on the resource"
    said = refused(
        lab,
        bucket,
        out,
        {
            "gone": Refuse(404, "NoSuchKey"),
            "denied": Refuse(403, "AccessDenied"),
            "kms": Refuse(403, "AccessDenied", kms),
            "disabled": Refuse(400, "KMS.DisabledException", "The key is disabled."),
            "archived": Refuse(403, "InvalidObjectState", "The operation is not valid for the object's storage class"),
            "clock": Refuse(403, "RequestTimeTooSkewed", "The difference is too large."),
        },
    )
    assert "it does not exist" in said["gone"]
    assert "s3:GetObject" in said["denied"]
    assert "requester pays" in said["denied"].lower()
    assert "kms:Decrypt" in said["kms"]
    assert "KMS key" in said["disabled"] and "enable" in said["disabled"].lower()
    assert "restore it first" in said["archived"]
    assert "clock" in said["clock"]


def test_what_s3_refuses_to_take_is_sent_once_and_its_cause_and_setting_are_named(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF14, XF15."""
    faults = {
        "denied": (Refuse(403, "AccessDenied"), ("s3:PutObject", "kms:GenerateDataKey")),
        "kms": (Refuse(400, "KMS.DisabledException", "The key is disabled."), ("KMS key", "enable")),
        "acl": (Refuse(400, "AccessControlListNotSupported", "no ACLs"), ("AccessControlListNotSupported", "no ACLs")),
        "locked": (Refuse(400, "InvalidRequest", "Content-MD5 is required"), ("Content-MD5 is required",)),
        "clock": (Refuse(403, "RequestTimeTooSkewed"), ("clock",)),
    }
    with before(lab, bucket, COPY, out) as (proxy, agent):
        for name, (fault, words) in faults.items():
            record = bucket.put(f"in/{name}")
            in_turn(proxy, "PutObject", [])
            proxy.add("s3", "PutObject", fault, times=None)
            answer = agent.invoke({"Records": [record]})
            assert answer.error_type == "StageOutFailed", name
            assert f"s3://{bucket.name}/out/{name} cannot be written" in answer.document["errorMessage"]
            assert all(word in answer.document["errorMessage"] for word in words), answer.document["errorMessage"]
            assert len([call for call in proxy.calls("s3", "PutObject") if f"/out/{name}" in call.path]) == 1, name
    assert bucket.keys("out/") == []


@pytest.mark.parametrize("fault", [Refuse(403, "AccessDenied"), Drop()], ids=repr)
def test_a_part_that_never_arrives_leaves_neither_object_nor_parts(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...], fault: Fault
) -> None:
    """XF6: the third of five."""
    with before(lab, bucket, PARTS, out) as (proxy, agent):
        proxy.add("s3", "UploadPart", fault, times=None, where=lambda request: "partNumber=3" in request.path)
        answer = agent.invoke({}, timeout_s=120)
        assert answer.error_type == "StageOutFailed", proxy.told()
        assert len(proxy.calls("s3", "AbortMultipartUpload")) == 1
        assert len([call for call in proxy.calls("s3", "UploadPart") if "partNumber=3" in call.path]) <= 6
    assert bucket.keys("out/") == []
    assert bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []


def test_a_write_whose_answer_is_lost_is_sent_again_the_same(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF7: what a second event of the same content does is EV5."""
    with before(lab, bucket, COPY, out) as (proxy, agent):
        for number, fault in enumerate((Lose(), Drop(), Cut(0), Throttle(), Refuse(500, "InternalError"))):
            content = os.urandom(1000)
            in_turn(proxy, "PutObject", [fault])
            answer = agent.invoke({"Records": [bucket.put(f"in/{number}", content)]})
            assert answer.error_type is None, f"{fault}: {answer.body!r}"
            sent = [call.body for call in proxy.calls("s3", "PutObject") if call.path.endswith(f"/out/{number}")]
            assert 1 <= len(sent) <= 2 and len(set(sent)) == 1, fault
            assert bucket.get(f"out/{number}") == content


@pytest.mark.parametrize(
    ("faults", "published"),
    [
        ([ErrorInside()], True),
        ([ErrorInside(applied=True)], True),
        ([Lose()], True),
        ([Lose(), Refuse(404, "NoSuchUpload")], True),
        ([Refuse(404, "NoSuchUpload")], False),
        ([ErrorInside()] * 20, False),
    ],
    ids=["error inside", "error inside though applied", "lost", "lost and gone", "gone", "error inside for ever"],
)
def test_an_upload_that_ends_in_doubt_is_looked_at(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...], faults: list[Fault], published: bool
) -> None:
    """XF8."""
    with before(lab, bucket, TWO_PARTS, out) as (proxy, agent):
        in_turn(proxy, "CompleteMultipartUpload", faults)
        answer = agent.invoke({}, timeout_s=120)
        told = f"{answer.body!r}\n{proxy.told()}"
        if published:
            assert answer.error_type is None, told
            assert bucket.client.head_object(Bucket=bucket.name, Key="out/large")["ContentLength"] == TWO_PARTS_BYTES
        else:
            assert answer.error_type == "StageOutFailed", told
            assert bucket.keys("out/") == []
    assert bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []


def test_an_older_object_of_the_name_is_not_taken_for_an_upload_that_is_gone(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF8."""
    bucket.put("out/large", b"x" * 1000)
    with before(lab, bucket, TWO_PARTS, out) as (proxy, agent):
        in_turn(proxy, "CompleteMultipartUpload", [Refuse(404, "NoSuchUpload")])
        assert agent.invoke({}, timeout_s=120).error_type == "StageOutFailed"
    assert bucket.get("out/large") == b"x" * 1000


def test_a_bucket_of_another_region_is_found_there(lab: Lab, bucket: Bucket, out: tuple[Storage, ...]) -> None:
    """XF15."""
    with before(lab, bucket, COPY, out) as (proxy, agent):
        for operation in ("GetObject", "PutObject"):
            proxy.add("s3", operation, Elsewhere("eu-central-1"), times=None)
        for name in ("one", "two"):
            answer = agent.invoke({"Records": [bucket.put(f"in/{name}")]})
            assert answer.error_type is None, f"{answer.body!r}\n{proxy.told()}"
            assert bucket.get(f"out/{name}") == b"hello"
            for operation in ("GetObject", "PutObject"):
                assert len([call for call in proxy.calls("s3", operation) if call.path.endswith(name)]) <= 3, (
                    proxy.told()
                )


def test_an_answer_without_what_it_should_hold_is_no_success(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF2: an empty body of a read, another ETag."""
    content = os.urandom(MIB)
    with before(lab, bucket, COPY, out) as (proxy, agent):
        for name, fault in {"empty": Empty(), "etag": WRONG_ETAG}.items():
            in_turn(proxy, "GetObject", [fault])
            answer = agent.invoke({"Records": [bucket.put(f"in/{name}", content)]})
            if answer.error_type is None:
                assert bucket.get(f"out/{name}") == content, name
            else:
                assert answer.error_type == "StageInFailed" and f"out/{name}" not in bucket.keys("out/")


def test_outputs_that_are_configured_and_do_not_come_are_told(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF18: success, and a warning."""
    with before(lab, bucket, "true", out) as (_, agent):
        answer = agent.invoke({"Records": [bucket.put("in/a")]})
    assert answer.error_type is None
    [warned] = [fact["fact"] for fact in agent.facts() if fact["level"] == "WARNING"]
    assert warned.startswith("nothing to publish: no file of the output directory matches")
