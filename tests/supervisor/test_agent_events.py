"""Payloads become items as the cases in tests/cases/events say; no payload of any kind does anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faassupervisor import events
from faassupervisor.errors import BadEventError
from faassupervisor.events import DirectItem, ObjectItem, RawItem, Refused, Skipped

CASES = sorted((Path(__file__).parents[1] / "cases" / "events").glob("*.json"))


def payload_of(case: dict[str, Any]) -> bytes:
    return case["text"].encode() if "text" in case else json.dumps(case["event"]).encode()


def check(outcome: object, expected: dict[str, Any], payload: bytes) -> None:
    kind = expected["kind"]
    match outcome:
        case ObjectItem():
            assert kind == "object"
            for name in expected.keys() - {"kind"}:
                assert getattr(outcome, name) == expected[name], name
            assert len(json.loads(outcome.event)["Records"]) == 1
        case DirectItem(script=script, arguments=arguments):
            assert kind == "direct"
            assert (script.decode() if script is not None else None) == expected["script"]
            assert (list(arguments) if arguments is not None else None) == expected["arguments"]
        case RawItem(event=event):
            assert kind == "raw"
            assert event == payload
        case Skipped(reason=reason):
            assert kind == "skipped"
            assert expected["reason"] in reason
        case Refused(reason=reason):
            assert kind == "refused"
            assert expected["reason"] in reason
        case _:
            raise AssertionError(outcome)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_payload_means_what_its_case_says(path):
    case = json.loads(path.read_bytes())
    payload = payload_of(case)
    if "refused" in case:
        with pytest.raises(BadEventError, match=case["refused"]):
            events.parse(payload)
        return
    outcomes = events.parse(payload)
    assert len(outcomes) == len(case["expect"])
    for outcome, expected in zip(outcomes, case["expect"], strict=True):
        check(outcome, expected, payload)


def test_there_are_cases():
    assert len(CASES) > 70


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
FIELDS = st.sampled_from(
    [
        "Records",
        "eventSource",
        "eventVersion",
        "eventName",
        "s3",
        "bucket",
        "object",
        "name",
        "key",
        "script",
        "cmd_args",
        "Event",
        "size",
        "eTag",
    ]
)
VALUES = (
    st.sampled_from(["aws:s3", "2.1", "ObjectCreated:Put", "s3:TestEvent", "in/a%FF", "\ud800", "a\0b", "W10="]) | JSON
)
NEARLY = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=25,
)
RECORDS = st.fixed_dictionaries(
    {
        "Records": st.lists(
            st.fixed_dictionaries({"eventSource": st.just("aws:s3"), "eventName": VALUES, "s3": NEARLY}) | NEARLY,
            min_size=1,
            max_size=4,
        )
    }
)


def harmless(payload: bytes) -> None:
    try:
        first = events.parse(payload)
    except BadEventError as error:
        assert error.message.isprintable()
        return
    assert first
    assert events.parse(payload) == first
    for outcome in first:
        if isinstance(outcome, ObjectItem):
            assert outcome.bucket
            assert outcome.key
            assert "\0" not in outcome.key
            outcome.key.encode()
        if isinstance(outcome, (Skipped, Refused)):
            assert outcome.reason.isascii()
            assert outcome.reason.isprintable()


@settings(max_examples=600, deadline=None)
@given(JSON | NEARLY | RECORDS)
def test_any_json_gives_items_or_a_refusal(document):
    harmless(json.dumps(document).encode())


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_items_or_a_refusal(payload):
    harmless(payload)
