"""Who is told how an asynchronous event ended? Dead-letter queues and destinations, in AWS's record shapes, through moto."""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from moto.events.models import events_backends
from moto.events.utils import _BASE_EVENT_MESSAGE
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends

from scar.limits import KIB
from scar.local.functions.configuration import Outcome
from scar.local.functions.queue import Event
from scar.local.iam.authority import Authority
from scar.local.iam.on_behalf import refusal_of_delivery

_MESSAGE_BYTES: Final = 1024 * KIB  # SQS and EventBridge; SNS has a quarter of it
_SNS_BYTES: Final = 256 * KIB
_SERVICES: Final = frozenset({"sqs", "sns", "lambda", "events"})
_Attributes = Mapping[str, tuple[str, str]]  # name → (type, value)


class UndeliverableError(Exception):
    """The target is not there or does not take it."""


def record(
    event: Event, payload: bytes, outcome: Outcome | None, *, condition: str, function_arn: str
) -> dict[str, Any]:
    """The invocation record of Lambda's destinations, version 1.0."""
    document: dict[str, Any] = {
        "version": "1.0",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": function_arn,
            "condition": condition,
            "approximateInvokeCount": event.failures + (outcome is not None),
        },
        "requestPayload": json_or_text(payload),
    }
    if outcome is not None:
        document["responseContext"] = {"statusCode": outcome.status_code, "executedVersion": outcome.version}
        if outcome.failed:
            document["responseContext"]["functionError"] = "Unhandled"
        document["responsePayload"] = json_or_text(outcome.payload)
    return document


def json_or_text(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


class Destinations:
    """Delivers to an ARN. `invoke` accepts an asynchronous event for another function; `persist` saves moto's services by name."""

    def __init__(
        self,
        invoke: Callable[[str, bytes, str, str], None],
        persist: Callable[[Sequence[str]], None],
        authority: Authority | None = None,
    ) -> None:
        self._invoke, self._persist, self._authority = invoke, persist, authority

    def send(self, target: str, text: str) -> None:
        """A message of somebody else's to a queue, a topic or a function. Raises UndeliverableError."""
        if target.split(":")[2:3] == ["events"]:
            raise UndeliverableError(f"{target}: an event bus takes events, not messages")
        self._send(target, text, {}, None, None)

    def send_record(self, target: str, document: dict[str, Any], event: Event, *, role: str) -> None:
        """As the function's `role`. Raises UndeliverableError."""
        if refusal := refusal_of_delivery(self._authority, role, target):
            raise UndeliverableError(refusal)
        self._send(target, json.dumps(document), {}, event, document)

    def send_dead_letter(self, target: str, payload: bytes, outcome: Outcome | None, event: Event) -> None:
        """The event itself, with what went wrong as message attributes. Raises UndeliverableError."""
        told = json_or_text(outcome.payload) if outcome is not None else {}
        message = told.get("errorMessage") if isinstance(told, dict) else None
        attributes = {
            "RequestID": ("String", event.request_id),
            "ErrorCode": ("Number", "200"),
            "ErrorMessage": ("String", (str(message or event.reason) or "failed")[:KIB]),
        }
        self._send(target, payload.decode(errors="replace"), attributes, event, None)

    def _send(
        self, target: str, text: str, attributes: _Attributes, event: Event | None, document: dict[str, Any] | None
    ) -> None:
        try:
            service, region, account = target.split(":")[2:5]
        except ValueError as error:
            raise UndeliverableError(f"{target} is not an ARN") from error
        if service not in _SERVICES:
            raise UndeliverableError(f"{target}: the local AWS has no destination of this kind")
        size, limit = len(text.encode()), _SNS_BYTES if service == "sns" else _MESSAGE_BYTES
        if size > limit:
            raise UndeliverableError(f"{target} takes no message of {size} bytes")
        try:
            match service:
                case "sqs":
                    _send_to_queue(target, text, attributes, account=account, region=region)
                case "sns":
                    _publish(target, text, attributes, account=account, region=region)
                case "lambda":
                    self._invoke(target, text.encode(), account, region)
                case _:
                    assert event is not None
                    self._put_event(target, _bridge_event(text, event, document or {}, account=account, region=region))
            if service != "lambda":
                self._persist(("sqs",))  # topics and event buses hand messages on to queues at once
        except Exception as error:  # a door: moto raises whatever its backends raise
            raise UndeliverableError(f"{target}: {type(error).__name__}: {error}") from error

    def _put_event(self, target: str, event: dict[str, Any]) -> None:
        """To the targets of each rule that fits. moto knows those of its own services; functions are ours."""
        region, account = target.split(":")[3:5]
        bus = events_backends[account][region].event_buses[target.rsplit("/", 1)[-1]]
        for rule in list(bus.rules.values()):
            if rule.state != "ENABLED" or not rule.event_pattern.matches_event(event):
                continue
            for found in list(rule.targets):
                if found["Arn"].split(":")[2] == "lambda" and self._may_invoke(str(rule.arn), found["Arn"], account):
                    self._invoke(found["Arn"], _input(found, event).encode(), account, region)
            others = copy.copy(rule)
            others.targets = [found for found in rule.targets if found["Arn"].split(":")[2] != "lambda"]
            now = time.time()  # moto writes numbers for times
            others.send_to_targets({**_BASE_EVENT_MESSAGE, **event, "time": now, "ingestion-time": now})

    def _may_invoke(self, rule: str, function: str, account: str) -> bool:
        """A rule invokes a function only if the function's own policy lets it. eventbridge/latest/userguide/eb-use-resource-based"""
        if self._authority is None:
            return True
        ask = self._authority.refusal_of_service
        return ask("events.amazonaws.com", "lambda:InvokeFunction", function, source=rule, account=account) is None


def _send_to_queue(target: str, text: str, attributes: _Attributes, *, account: str, region: str) -> None:
    named = {name: {"DataType": kind, "StringValue": value} for name, (kind, value) in attributes.items()}
    sqs_backends[account][region].send_message(target.rsplit(":", 1)[-1], text, named or None)


def _publish(target: str, text: str, attributes: _Attributes, *, account: str, region: str) -> None:
    named = {name: {"Type": kind, "Value": value} for name, (kind, value) in attributes.items()}
    sns_backends[account][region].publish(text, arn=target, message_attributes=named or None)


def _bridge_event(text: str, event: Event, document: Mapping[str, Any], *, account: str, region: str) -> dict[str, Any]:
    """What Lambda puts onto a bus of EventBridge."""
    context = document["requestContext"]
    end = "Success" if context["condition"] == "Success" else "Failure"
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": f"Lambda Function Invocation Result - {end}",
        "source": "lambda",
        "account": account,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "region": region,
        "resources": [context["functionArn"], event.function],
        "detail": json.loads(text),
    }


def _input(target: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    """What a rule's target is given: the event, a part of it (`$.detail`), or a text of its own."""
    if "Input" in target:
        return str(target["Input"])
    found: Any = event
    for step in str(target.get("InputPath") or "$").split(".")[1:]:
        found = found[step]
    return json.dumps(found)
