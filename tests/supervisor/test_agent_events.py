"""Payloads become items as the cases in tests/cases/events say; no payload of any kind does anything else."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faassupervisor import events
from faassupervisor.contract import Provider, Spec, Storage
from faassupervisor.errors import BadEventError
from faassupervisor.events import DirectItem, HttpItem, Known, ObjectItem, Outcome, RawItem, Refused, Skipped, http

CASES = sorted((Path(__file__).parents[1] / "cases" / "events").glob("*.json"))
OF_ITEM = {
    "provider",
    "bucket",
    "key",
    "version_id",
    "etag",
    "size",
    "sequencer",
    "event_time",
    "method",
    "path",
    "asynchronous",
    "forwarded",
}


def payload_of(case: dict[str, Any]) -> bytes:
    return case["text"].encode() if "text" in case else json.dumps(case["event"]).encode()


def known_of(case: dict[str, Any]) -> Known:
    """What the case's function knows of storage."""
    function = case.get("function", {"inputs": [], "providers": []})
    inputs = tuple(Storage(**storage) for storage in function["inputs"])
    return Known.of(Spec("f", inputs=inputs, providers=tuple(Provider(name, "x") for name in function["providers"])))


def as_case(outcome: Outcome, payload: bytes) -> dict[str, Any]:
    """An outcome in the words of the cases."""
    told: dict[str, Any] = {"message": None, "group": None}
    if outcome.message is not None:
        told = {
            "message": f"{outcome.message.kind}:{outcome.message.id}:{outcome.message.index}",
            "group": outcome.message.group,
        }
    told |= {name: getattr(outcome, name) for name in OF_ITEM if hasattr(outcome, name)}
    match outcome:
        case ObjectItem():
            return told | {"kind": "object"}
        case DirectItem(script=script, arguments=arguments):
            script_text = script.decode() if script is not None else None
            return told | {"kind": "direct", "script": script_text, "arguments": arguments and list(arguments)}
        case RawItem(event=event, body=body):
            assert body is not None or event == payload
            return told | {"kind": "raw", "body": body and body.decode() if body != b"" else ""}
        case HttpItem(body=body):
            return told | {
                "kind": "http",
                "body": body.decode("utf-8", "replace"),
                "body_base64": base64.b64encode(body).decode(),
                "headers": [list(header) for header in outcome.headers],
                "query": [list(parameter) for parameter in outcome.query],
                "variables": {k: v for k, v in http.variables(outcome).items() if k.startswith("CONT_VAR_")},
            }
        case Skipped(reason=reason):
            return told | {"kind": "skipped", "reason": reason}
        case Refused(reason=reason):
            return told | {"kind": "refused", "reason": reason, "of_http": outcome.of_http}
        case _:
            raise AssertionError(outcome)


def check(outcome: Outcome, expected: dict[str, Any], payload: bytes, known: Known) -> None:
    told = as_case(outcome, payload)
    for name, value in expected.items():
        assert value in told[name] if name == "reason" else told[name] == value, name
    if isinstance(outcome, Skipped | Refused):
        return
    assert b"CANARY" not in outcome.event
    # A job of Batch gets the item's event, and nothing else: it has to mean the same.
    (again,) = events.parse(outcome.event, known)
    assert isinstance(again, type(outcome))
    if isinstance(outcome, RawItem):
        assert again == outcome
    else:
        assert dataclasses.replace(again, message=None) == dataclasses.replace(outcome, message=None)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_payload_means_what_its_case_says(path):
    """What each case is for stands in its `about`.

    EV1, EV2, EV3, EV4, EV5, EV7, EV8, EV9, EV10, EV11, EV12, EV13, EV14, EV15, EV17; KEY1, KEY2, KEY4, KEY8; AP1, AP2, AP5, AP6.
    """
    case = json.loads(path.read_bytes())
    payload, known = payload_of(case), known_of(case)
    if "refused" in case:
        with pytest.raises(BadEventError, match=case["refused"]):
            events.parse(payload, known)
        return
    outcomes = events.parse(payload, known)
    assert len(outcomes) == len(case["expect"])
    for outcome, expected in zip(outcomes, case["expect"], strict=True):
        check(outcome, expected, payload, known)


def test_there_are_cases():
    assert len(CASES) > 200


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


DOCUMENTS = [json.loads(path.read_bytes()).get("event") for path in CASES if path.stat().st_size < 8000]
FUNCTION = Known.of(
    Spec(
        "f",
        inputs=(Storage("minio.lab", "mb", "in"), Storage("webdav.dcache", "", "Users/ana/in")),
        providers=(Provider("minio.lab", "x"), Provider("webdav.dcache", "x")),
    )
)


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """An event of the cases with one of its values, however deep, gone or replaced."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    here = document
    while isinstance(here, dict | list) and here:
        place = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        inner = here[place]
        if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 3)) == 0:
            if isinstance(here, dict) and draw(st.booleans()):
                del here[place]
            else:
                here[place] = draw(VALUES | st.sampled_from(DOCUMENTS).map(json.dumps) | NEARLY)
            break
        here = inner
    return document


def harmless(payload: bytes, known: Known = FUNCTION) -> None:
    try:
        first = events.parse(payload, known)
    except BadEventError as error:
        assert error.message.isprintable()
        return
    assert first
    assert events.parse(payload, known) == first
    for outcome in first:
        if isinstance(outcome, ObjectItem):
            assert outcome.bucket or outcome.provider.startswith("webdav")
            assert outcome.key
            assert "\0" not in outcome.key
            outcome.key.encode()
        if isinstance(outcome, HttpItem):
            for text in http.variables(outcome).values():
                assert "\0" not in text
                text.encode()
        if isinstance(outcome, Skipped | Refused):
            assert outcome.reason.isascii()
            assert outcome.reason.isprintable()
        else:
            (again,) = events.parse(outcome.event, known)
            expected = outcome.message if isinstance(outcome, RawItem) else again.message
            assert again == dataclasses.replace(outcome, message=expected)


@settings(max_examples=300, deadline=None)
@given(JSON | NEARLY | RECORDS)
def test_any_json_gives_items_or_a_refusal(document):
    """EV18."""
    harmless(json.dumps(document).encode())


@settings(max_examples=500, deadline=None)
@given(spoiled())
def test_any_event_with_anything_wrong_in_it_gives_items_or_a_refusal(document):
    """EV18, EV4."""
    harmless(json.dumps(document).encode())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_items_or_a_refusal(payload):
    """EV14, EV18."""
    harmless(payload)


def request(**fields: Any) -> bytes:
    context = {"http": {"method": "POST"}}
    return json.dumps({"version": "2.0", "rawPath": "/", "headers": {}, "requestContext": context, **fields}).encode()


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("&".join(f"a{number}=x" for number in range(501)), "more than 500 parameters"),
        ("a=" + "x" * 65537, "65536 are the limit"),
        ("a=" + "x" * 200_000, "the query is too long"),
        ("x=1&" * 20_000, "more than 500 parameters"),
    ],
)
def test_a_query_beyond_any_use_is_a_bad_request(query, reason):
    """AP6."""
    (refused,) = events.parse(request(rawQueryString=query))
    assert isinstance(refused, Refused)
    assert refused.of_http
    assert reason in refused.reason


@pytest.mark.parametrize("depth", [500, 5000, 200_000])
def test_a_body_nested_however_deeply_is_data(depth):
    """EV14."""
    (item,) = events.parse(request(body="[" * depth))
    assert isinstance(item, HttpItem)
    assert item.body == b"[" * depth
