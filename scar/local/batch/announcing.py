"""Who hears of a job's change of status? Rules of EventBridge's default bus that match "Batch Job State Change".

Source: batch/latest/userguide/batch_cwe_events, batch_job_events
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from scar.local.functions.configuration import LogSink
from scar.local.functions.destinations import Destinations

_KEPT: Final = 10_000  # more than this wait only while nothing is delivered: the oldest go


class Outbox:
    """Events of one region, delivered by whoever calls `deliver`. `tell` takes a line for the daemon's log."""

    def __init__(
        self, account: str, region: str, destinations: Destinations, log: LogSink, tell: Callable[[str], None]
    ) -> None:
        self._account, self._region, self._destinations, self._log = account, region, destinations, log
        self._tell = tell
        self._waiting: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to tell; events are not even made where there is nobody."""
        return bool(self._rules())

    @property
    def has_news(self) -> bool:
        return bool(self._waiting)

    def add(self, detail: Mapping[str, Any]) -> None:
        """`detail` is the job as DescribeJobs shows it."""
        self._waiting.append(
            {
                "version": "0",
                "id": str(uuid.uuid4()),
                "detail-type": "Batch Job State Change",
                "source": "aws.batch",
                "account": self._account,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "region": self._region,
                "resources": [detail["jobArn"]],
                "detail": detail,
            }
        )

    def deliver(self) -> None:
        """Hand on what waits. Raises nothing: a target that is gone must not stop jobs."""
        with self._lock:
            while self._waiting:
                event = self._waiting.popleft()
                for rule in self._rules():
                    if rule.event_pattern.matches_event(event):
                        for target in list(rule.targets):
                            self._send(rule.name, target, event)

    def _rules(self) -> list[Any]:
        from moto.events.models import events_backends

        bus = events_backends[self._account][self._region].event_buses.get("default")
        rules = [] if bus is None else list(bus.rules.values())
        return [rule for rule in rules if rule.state == "ENABLED" and rule.event_pattern.get_pattern()]

    def _send(self, rule: str, target: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        arn, text = str(target["Arn"]), self._text(target, event)
        try:
            if arn.split(":")[2:3] == ["logs"]:
                group = arn.split(":")[6]
                line = (int(time.time() * 1000), text)
                self._log.put(group, str(event["id"]), [line], account=self._account, region=self._region, make=True)
            else:
                self._destinations.send(arn, text)
        except Exception as error:  # noqa: BLE001  # a door: a target of another shape must not stop jobs
            self._tell(f"the rule {rule} could not tell {arn} of a job: {error}")

    @staticmethod
    def _text(target: Mapping[str, Any], event: Mapping[str, Any]) -> str:
        """The event, or what the target wants instead of it."""
        if "Input" in target:
            return str(target["Input"])
        if "InputTransformer" in target:
            from moto.events.models import EventTemplateParser

            transformer = target["InputTransformer"]
            made = EventTemplateParser.parse(
                input_template=transformer.get("InputTemplate"),
                input_paths_map=transformer.get("InputPathsMap", {}),
                event=event,
            )
            return made if isinstance(made, str) else json.dumps(made)
        return json.dumps(event)
