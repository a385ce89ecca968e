"""The queue by itself: what it takes is on disk, is delivered once while nothing crashes, and is never delivered too little."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from lambda_bench import until

from scar.local.functions.queue import Again, Ended, Event, EventQueue, GaveUp, Verdict


class Script:
    """Delivers by a script: what each payload is answered, in order; the last answer stays."""

    def __init__(self, **answers: list[Verdict]) -> None:
        self.answers, self.ran, self.room = answers, [], True
        self._lock = threading.Lock()

    def may_run(self, event: Event) -> bool:
        return self.room

    def expired(self, event: Event) -> bool:
        return False

    def run(self, event: Event, payload: bytes) -> Verdict:
        with self._lock:
            self.ran.append((payload.decode(), event.failures, time.monotonic()))
            answers = self.answers.get(payload.decode(), [Ended()])
            return answers.pop(0) if len(answers) > 1 else answers[0]


def send(queue: EventQueue, payload: str, function: str = "f") -> None:
    queue.dispatch(queue.accept(function, payload.encode(), account="123456789012", region="us-east-1"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_an_event_that_was_sent_before_the_start_runs_once(tmp_path: Path) -> None:
    script = Script()
    queue = EventQueue(tmp_path, script, workers=2)
    send(queue, "early")
    assert queue.start() == 0
    until(lambda: not files(tmp_path))
    queue.stop()
    assert [payload for payload, *_ in script.ran] == ["early"]


def test_an_accepted_event_waits_for_its_dispatch_or_for_the_next_start(tmp_path: Path) -> None:
    script = Script()
    queue = EventQueue(tmp_path, script, workers=1)
    queue.start()
    token = queue.accept("f", b"held", account="1", region="r")
    time.sleep(0.1)
    assert script.ran == []
    queue.dispatch(token)
    queue.dispatch(token)
    until(lambda: not files(tmp_path))
    queue.accept("f", b"left", account="1", region="r")
    queue.stop()
    again = EventQueue(tmp_path, script, workers=1)
    assert again.start() == 1
    until(lambda: not files(tmp_path))
    again.stop()
    assert [payload for payload, *_ in script.ran] == ["held", "left"]


def test_failures_are_counted_waits_are_not_and_the_end_is_kept_with_its_reason(tmp_path: Path) -> None:
    script = Script(bad=[Again(0.0, "busy", counted=False), Again(0.1, "failed", counted=True), GaveUp("enough")])
    queue = EventQueue(tmp_path, script, workers=1)
    queue.start()
    send(queue, "bad")
    (event,) = until(queue.failed)
    queue.stop()
    assert [failures for _, failures, _ in script.ran] == [0, 0, 1]
    assert script.ran[2][2] - script.ran[1][2] >= 0.1
    assert event["reason"] == "enough"
    assert not files(tmp_path)
    assert (tmp_path / "failed" / f"{event['token']}.event").read_bytes().endswith(b"bad")


def test_an_error_in_delivery_is_told_and_tried_again(tmp_path: Path) -> None:
    class Broken(Script):
        def run(self, event: Event, payload: bytes) -> Verdict:
            if not event.waits:
                raise RuntimeError("a bug")
            return super().run(event, payload)

    told: list[str] = []
    script = Broken()
    queue = EventQueue(tmp_path, script, workers=1, tell=told.append)
    queue.start()
    send(queue, "x")
    until(lambda: script.ran)
    queue.stop()
    assert "RuntimeError: a bug" in told[0]


def test_what_a_crash_left_half_written_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".1-a.event.77.new").write_bytes(b"half")
    (tmp_path / "1-a.tries").write_text("{}")
    queue = EventQueue(tmp_path, Script(), workers=1)
    assert queue.start() == 0
    queue.stop()
    assert files(tmp_path) == []


CRASHING = """
import sys
from pathlib import Path
from scar.local.functions.queue import Again, Ended, EventQueue
folder = Path(sys.argv[1])
class Delivery:
    def may_run(self, event): return True
    def expired(self, event): return False
    def run(self, event, payload):
        with (folder / "ran").open("a") as file: file.write(payload.decode() + "\\n")
        return Again(0.01, "again", counted=True) if event.failures < 1 else Ended()
queue = EventQueue(folder / "events", Delivery(), workers=2)
queue.start()
for number in range(int(sys.argv[2]), 10_000):
    token = queue.accept("f", str(number).encode(), account="1", region="r")
    with (folder / "accepted").open("a") as file: file.write(f"{number}\\n")
    queue.dispatch(token)
"""


def test_twenty_crashes_at_any_point_lose_no_accepted_event(tmp_path: Path) -> None:
    ran, accepted = tmp_path / "ran", tmp_path / "accepted"
    for path in (ran, accepted):
        path.touch()
    chance = random.Random(7)
    for round_ in range(20):
        before = accepted.stat().st_size
        program = [sys.executable, "-c", CRASHING, str(tmp_path), str(round_ * 450)]
        with subprocess.Popen(program, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as process:
            until(lambda size=before: accepted.stat().st_size > size)
            time.sleep(chance.random() * 0.05)
            process.send_signal(signal.SIGKILL)
    script = Script()
    last = EventQueue(tmp_path / "events", script, workers=2)
    last.start()
    until(lambda: not files(tmp_path / "events"))
    last.stop()
    seen = set(ran.read_text().split()) | {payload for payload, *_ in script.ran}
    assert set(accepted.read_text().split()) <= seen
