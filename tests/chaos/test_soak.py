"""Many events of every kind, and nothing of the local AWS grows with them but what has to."""

from __future__ import annotations

import os
import time
import urllib.request
from dataclasses import dataclass, field
from itertools import cycle

import pytest

from tests.chaos.choice import Choice
from tests.chaos.small import COPY, deploy, small, small_image, status
from tests.chaos.soaking import (
    Sample,
    bytes_below,
    children_of,
    descriptors,
    resident_kib,
    slope,
    steady_slope,
    threads,
    tree_below,
)
from tests.e2e.conftest import Local, until

ROUND = 20  # events
KEYS = 40  # objects, overwritten again and again
# Of what is there, for each event: a tenth of a percent in a hundred events, so that a day of 100 000 events does no more than double it.
# What is really forgotten somewhere is not smaller: an object that moto keeps for each event takes 3 KiB with its strings, which is more.
SLOWLY = 0.001 / 100
FAILS = "#!/bin/sh\necho this one fails\nexit 3\n"
# What grows with events by right, each with a bound of its own: CloudWatch's lines (64 MiB a group), the journals of keys and of jobs (written
# anew when they have outgrown what they describe), the daemon's own log (8 MiB). Bodies of objects stay, for the same keys are written again.
MAY_GROW = ("logs", "s3", "batch")


@dataclass
class Soak:
    """A local AWS with functions of every kind, and the means to send them events."""

    local: Local
    url: str
    pid: int
    web: str
    queue: str
    sent: int = 0
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.s3, self.functions, self.sqs = map(self.local.client, ("s3", "lambda", "sqs"))
        self.keys = cycle(f"in/{number}.txt" for number in range(KEYS))

    def round(self, *, job: bool) -> None:
        """One round of events, and perhaps one that becomes a job; all of them have ended when this returns."""
        for _ in range(11):
            self.s3.put_object(Bucket="bucket-copy", Key=next(self.keys), Body=os.urandom(2000))
        for _ in range(2):
            answer = self.functions.invoke(FunctionName="copy", Payload=b'{"a": 1}')
            assert "FunctionError" not in answer, answer["Payload"].read()
            self.functions.invoke(FunctionName="copy", InvocationType="Event", Payload=b'{"a": 2}')
            self.sqs.send_message(QueueUrl=self.queue, MessageBody="a message")
            with urllib.request.urlopen(self.web, data=b"over HTTP", timeout=60) as answer:
                assert answer.read() == b"over HTTP"
        assert "FunctionError" in self.functions.invoke(FunctionName="fails", Payload=b"{}")
        self.sent += ROUND
        if job:
            self.s3.put_object(Bucket="bucket-job", Key="in/job.txt", Body=b"in Batch")
            self.s3.delete_object(Bucket="bucket-copy", Key="out/0.txt")
        until(f"the end of {self.sent} events", self._settled, 120)

    def _settled(self) -> bool:
        said = status(self.url)
        jobs = said["batch"]["jobs"]
        alive = sum(number for name, number in jobs.items() if name not in ("SUCCEEDED", "FAILED"))
        functions = said["functions"]["functions"].values()
        return not alive and not any(of["queued"] or of["busy"] for of in functions)

    def look(self) -> None:
        time.sleep(1.2)  # for what is removed once a second, else it is in some samples and not in others
        wardens = children_of(self.pid)
        agents = [pid for pid in tree_below(self.pid) if pid not in wardens]
        found = {
            "resident_kib": resident_kib(self.pid),
            "descriptors": descriptors(self.pid),
            "threads": threads(self.pid),
            "children": len(wardens),
            "disk_bytes": bytes_below(self.local.state, without=MAY_GROW),
            "log_bytes": bytes_below(self.local.state / "logs"),
            "sandbox_kib": max(map(resident_kib, agents)),
            "sandbox_descriptors": max(map(descriptors, agents)),
        }
        self.samples.append(Sample(self.sent, found))


@pytest.fixture
def soak(own_local: Local) -> Soak:
    small_image(own_local.folder)
    folder = own_local.folder
    queue = own_local.must("local", "up") and own_local.client("sqs").create_queue(QueueName="work")["QueueUrl"]
    deploy(
        own_local,
        {"lambda": small("copy", COPY, folder)},
        {"lambda": small("web", COPY, folder, inputs=False), "function_url": {"auth": "none"}},
        {"lambda": small("fails", FAILS, folder, inputs=False)},
        {
            "lambda": small("job", COPY, folder, execution_mode="batch"),
            "batch": {"vcpus": 1, "memory": 128, "compute_resources": {"min_v_cpus": 0, "max_v_cpus": 2}},
        },
    )
    functions = own_local.client("lambda")
    arn = own_local.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    functions.create_event_source_mapping(
        FunctionName="copy",
        EventSourceArn=arn["Attributes"]["QueueArn"],
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    web = functions.get_function_url_config(FunctionName="web")["FunctionUrl"]
    return Soak(own_local, own_local.url, own_local.daemon_pid(), web, queue)


def test_nothing_grows_with_the_events_that_were_seen(soak: Soak, choice: Choice) -> None:
    """LO14"""
    most = 10_000 if choice.whole else 600
    for _ in range(4):  # pools of memory and of sandboxes become as large as they will be
        soak.round(job=True)
    while soak.sent < most:
        soak.round(job=soak.sent % (5 * ROUND) == 0)
        if soak.sent % (2 * ROUND) == 0:
            soak.look()
    fit = slope if choice.whole else steady_slope
    last = soak.samples[-1].found
    found = {name: (fit if name.endswith("_kib") else slope)(soak.samples, name) for name in last}
    print(most, dict(last), found)
    bounds = {
        "descriptors": 1 / 200,  # a connection more or less is no growth
        "threads": 1 / 200,
        "children": 1 / 200,
        "disk_bytes": 1100,  # the bodies of one event, forgotten, would be 2200; those that wait to be removed come and go
        "sandbox_kib": last["sandbox_kib"] * SLOWLY,
        "sandbox_descriptors": 1 / 200,
        # CloudWatch's lines are in memory too, with what Python needs around each.
        "resident_kib": last["resident_kib"] * SLOWLY + 2 * found["log_bytes"] / 1024,
    }
    assert {name: found[name] for name, bound in bounds.items() if found[name] > bound} == {}, (bounds, soak.samples)
