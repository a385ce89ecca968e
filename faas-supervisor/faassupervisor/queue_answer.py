"""What a queue is answered: which messages of the batch come back.

`{"batchItemFailures": [{"itemIdentifier": …}]}` names exactly those of which a record failed, was refused or could not be handed over.
Lambda reads that when the event source mapping has `ReportBatchItemFailures`. Without it an answer of any kind is a success, and Lambda
deletes the whole batch: give every mapping that setting, or a batch size of 1. So a batch of which nothing succeeded fails as an
invocation, which returns all of it with either setting.

In a FIFO queue the messages of one group are in order: what follows a failed one comes back with it, and has not run.
Source: lambda/latest/dg/services-sqs-errorhandling.
"""

from __future__ import annotations

import json

from faassupervisor.events import Message


class Messages:
    """The queue's messages of one event, in order. Those of a topic or of EventBridge do not count: nobody reads an answer there."""

    def __init__(self) -> None:
        self._back: dict[str, bool] = {}
        self._groups: set[str] = set()
        self._unnamed = False

    def __len__(self) -> int:
        return len(self._back)

    def saw(self, message: Message | None) -> None:
        if message is not None and message.kind == "sqs":
            self._back.setdefault(message.id, False)

    def failed(self, message: Message | None) -> None:
        """A record of this message, or of none, did not succeed."""
        if message is None or message.kind != "sqs":
            self._unnamed = True
            return
        self._back[message.id] = True
        if message.group is not None:
            self._groups.add(message.group)

    def waits(self, message: Message | None) -> bool:
        """Whether the message may not run now, as one before it in its group has failed. One message's own records all run."""
        return (
            message is not None
            and message.group is not None
            and message.group in self._groups
            and not self._back.get(message.id, False)
        )

    @property
    def back(self) -> tuple[str, ...]:
        return tuple(name for name, back in self._back.items() if back)

    def answer(self) -> bytes | None:
        """None when there is no queue, or when the invocation's own failure says it: all come back, or something that has no name."""
        back = self.back
        if not self._back or self._unnamed or len(back) == len(self._back):
            return None
        return json.dumps({"batchItemFailures": [{"itemIdentifier": name} for name in back]}).encode()
