"""What `scar local status` says of events."""

from __future__ import annotations

from typing import Any

from scar.commands.local import described
from scar.local.lifecycle import Endpoint, Status

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:grayify"


def told(**functions: Any) -> list[str]:
    status = Status(
        Endpoint("http://127.0.0.1:1", 1, 2, "5", 0.0), 1.0, 1, 1, 0, 0, {}, {"name": "host"}, functions, {}
    )
    return [line for line in described(status) if "event" in line]


def test_an_event_that_cannot_be_run_yet_is_told_with_the_reason() -> None:
    event = {"request_id": "r-1", "function": FUNCTION, "failures": 0, "reason": "no room for another sandbox"}
    assert told(waiting_events=[event]) == ["waiting event: r-1 of grayify: no room for another sandbox"]


def test_an_event_whose_turn_has_not_come_is_not_told() -> None:
    assert told(waiting_events=[{"request_id": "r-1", "function": FUNCTION, "failures": 0, "reason": ""}]) == []
