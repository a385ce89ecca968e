"""`scar log`: two groups as one, one run with its jobs, and what comes while one looks."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scar.aws.following import HAND_OVER_S, NEW_RUN_S, Either
from scar.aws.logs import LATE_MS, Tail, of_lambda
from scar.errors import NotFoundError
from tests.support.account import FakeClock
from tests.support.runs_edge import Scar, World, now_ms

ROOT = Path(__file__).parents[2]
REQUEST = "0a0a0a0a-0000-4000-8000-00000000000a"
OTHER = "0b0b0b0b-0000-4000-8000-00000000000b"


def start(request: str) -> str:
    return f"START RequestId: {request} Version: $LATEST"


def report(request: str, more: str = "") -> str:
    return f"REPORT RequestId: {request}\tDuration: 1.00 ms\tBilled Duration: 1 ms{more}"


def fact(request: str, said: str, **facts: object) -> str:
    return json.dumps({"level": "INFO", "request_id": request, "fact": said, **facts})


def messages(documents: list[dict[str, str]]) -> list[str]:
    return [line["message"] for line in documents]


def test_the_lines_of_lambda_and_batch_are_one_log_in_time_order(world: World, scar: Scar) -> None:
    now = now_ms()
    world.log("/aws/lambda/l1", "a", *[(now - 1000 + 10 * n, f"lambda {n}") for n in range(5)])
    world.log("/aws/lambda/l1", "b", (now - 995, "lambda b"))
    world.log("/aws/batch/job/l1", "l1/default/1", *[(now - 1003 + 10 * n, f"batch {n}") for n in range(5)])
    done = scar("log", "-n", "l1", "-o", "json")
    assert done.code == 0
    assert messages(done.documents)[:5] == ["batch 0", "lambda 0", "lambda b", "batch 1", "lambda 1"]
    assert {line["source"] for line in done.documents} == {"lambda", "batch"}
    assert len(done.documents) == 11
    assert [line.split()[1:] for line in scar("log", "-n", "l1", "-ls", "b").out.splitlines()] == [["lambda", "b"]]
    assert len(scar("log", "-n", "l1", "-ls", "l1/default/1").out.splitlines()) == 5


def test_a_log_that_is_not_there_and_one_that_is_empty_are_told_apart(world: World, scar: Scar) -> None:
    """BA16."""
    assert scar("log", "-n", "l2").code == 3
    world.log("/aws/lambda/l2", "a")
    done = scar("log", "-n", "l2", "-o", "json")
    assert (done.code, done.documents) == (0, [])
    assert "has not run yet" in done.err
    assert scar("log", "-n", "l2", "-ls", "nowhere").code == 3


def test_what_would_steer_a_terminal_is_shown_escaped_and_half_a_character_too(world: World, scar: Scar) -> None:
    """BA16."""
    world.log("/aws/lambda/l3", "a", "\x1b[2Jred\x9b31m \ufffd \ud800 ok")
    text = scar("log", "-n", "l3").out
    assert "\\x1b[2Jred\\x9b31m \ufffd" in text
    assert "\x1b" not in text
    assert "ok" in scar("log", "-n", "l3", "-o", "json").documents[0]["message"]


def test_a_large_log_is_shown_whole_page_by_page(world: World, scar: Scar) -> None:
    """BA16."""
    now = now_ms()
    world.log("/aws/batch/job/l4", "s", *[(now - 30_000 + n, f"{n:06d}") for n in range(12_000)])
    done = scar("log", "-n", "l4", "-o", "json")
    assert messages(done.documents) == [f"{n:06d}" for n in range(12_000)]


def hand_over(world: World, name: str, exit_code: int | None, **more: str) -> str:
    """A run among others that a job took over; answers the job's id."""
    one = world.job(
        name,
        "FAILED" if exit_code else "SUCCEEDED",
        exit_code=exit_code,
        request_id=REQUEST,
        streams=["n/default/1", "n/default/2"],
        statusReason="Essential container in task exited",
    )
    world.function(name, queue=f"scar-{name}")
    world.log(
        f"/aws/lambda/{name}",
        "s",
        start(OTHER), "not mine", report(OTHER),
        start(REQUEST), "mine in lambda", fact(REQUEST, "script ended", exit_code=124), fact(REQUEST, "handed over", job_id=one), report(REQUEST),
        start(OTHER), f"not mine, says {REQUEST}", report(OTHER),
    )  # fmt: skip
    world.log(f"/aws/batch/job/{name}", "n/default/1", "first attempt")
    world.log(
        f"/aws/batch/job/{name}",
        "n/default/2",
        "second attempt",
        json.dumps({"request_id": REQUEST, "runs": [], "schema": 1}),
    )
    world.log(f"/aws/batch/job/{name}", "n/default/3", "another job")
    return one


def test_one_run_is_shown_with_its_jobs_and_how_they_ended(world: World, scar: Scar) -> None:
    """TM16: a failed job's log and exit code are visible."""
    name, exit_code = "l5", 3
    one = hand_over(world, name, exit_code)
    done = scar("log", "-n", name, "-ri", REQUEST)
    assert done.code == 0
    said = [line.split(" ", 1)[1] for line in done.out.splitlines()]
    assert [text for text in said if "attempt" in text or "mine" in text] == [
        "mine in lambda",
        "first attempt",
        "second attempt",
    ]
    ending = f"Batch job {one}: FAILED, exit code {exit_code}: Essential container in task exited"
    assert done.out.splitlines()[-1] == ending
    document = scar("log", "-n", name, "-ri", REQUEST, "-o", "json").documents
    assert document[-1]["job"] == {
        "id": one, "status": "FAILED", "exit_code": exit_code,
        "reason": "Essential container in task exited", "container_reason": "",
    }  # fmt: skip
    assert scar("log", "-n", name, "-ri", one).out == done.out
    assert scar("log", "-n", name, "-ri", REQUEST, "-ls", "n/default/1").out.splitlines()[0].endswith("first attempt")


def test_the_delivery_of_a_failure_belongs_to_the_run_that_failed(world: World, scar: Scar) -> None:
    """The leg was killed; another invocation, with an id of its own, handed the run over."""
    one = world.job("l6", "SUCCEEDED", exit_code=0, request_id=REQUEST)
    world.log("/aws/lambda/l6", "s", start(REQUEST), "begun", report(REQUEST, "\tStatus: timeout"))
    world.log(
        "/aws/lambda/l6",
        "t",
        start(OTHER), "before the agent spoke", fact(REQUEST, "handed over", job_id=one, reason="killed"), report(OTHER),
    )  # fmt: skip
    done = scar("log", "-n", "l6", "-ri", REQUEST, "-o", "json")
    assert messages(done.documents)[:4] == [start(REQUEST), "begun", report(REQUEST, "\tStatus: timeout"), start(OTHER)]
    assert "before the agent spoke" in messages(done.documents)
    assert done.documents[-1]["job"]["id"] == one


def test_a_run_that_nobody_knows_is_not_found(world: World, scar: Scar) -> None:
    world.log("/aws/lambda/l7", "s", start(OTHER), report(OTHER))
    assert scar("log", "-n", "l7", "-ri", REQUEST).code == 3
    assert scar("log", "-n", "l7", "-ri", 'x" "y').code == 2
    theirs = world.job("cow")
    done = scar("log", "-n", "l7", "-ri", theirs)
    assert done.code == 3
    assert f"scar log -n cow -ri {theirs}" in done.err


def test_a_job_that_batch_has_forgotten_does_not_hide_the_rest(world: World, scar: Scar) -> None:
    one = hand_over(world, "l8", 0)
    del world.jobs[one]
    done = scar("log", "-n", "l8", "-ri", REQUEST)
    assert (done.code, "mine in lambda" in done.out) == (0, True)
    assert one in done.err


# -- following ---------------------------------------------------------------------------------------------------


def test_lines_of_one_millisecond_and_late_ones_are_each_given_once(world: World) -> None:
    now = now_ms()
    tail = Tail(world.mine, of_lambda("f1"))
    assert list(tail.poll()) == []  # there is no log yet
    world.log("/aws/lambda/f1", "s", (now, "1"), (now, "2"))
    assert [line.message for line in tail.poll()] == ["1", "2"]
    world.log("/aws/lambda/f1", "s", (now, "3"), (now, "1"))  # the same text again is another line
    world.log("/aws/lambda/f1", "t", (now - LATE_MS + 1000, "late"))
    assert [line.message for line in tail.poll()] == ["late", "3", "1"]
    assert list(tail.poll()) == []


@pytest.mark.parametrize(("failing", "status"), [({1, 3, 6, 8}, 503), ({2, 4, 5, 7, 9}, 200)])
def test_following_survives_an_aws_that_is_out_of_reach_for_a_moment(
    world: World, scar: Scar, monkeypatch: pytest.MonkeyPatch, failing: set[int], status: int
) -> None:
    """Whichever call fails, every line is shown once, and the exit code is the job's."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    name = f"f8-{len(failing)}"
    hand_over(world, name, 7)
    asked = itertools.count(1)
    world.fails = lambda call: status if "Get" not in call and next(asked) in failing else None
    done = scar("log", "-n", name, "-ri", REQUEST, "--follow", "-o", "json")
    assert done.code == 7
    said = messages(done.documents)
    assert {text: said.count(text) for text in ("mine in lambda", "first attempt", "second attempt")} == {
        "mine in lambda": 1, "first attempt": 1, "second attempt": 1,
    }  # fmt: skip
    assert "trying again" in done.err
    assert next(asked) > max(failing)


def test_following_a_run_ends_with_its_job_and_its_exit_code(world: World, scar: Scar) -> None:
    one = hand_over(world, "f2", 7)
    ended = dict(world.jobs[one])
    world.jobs[one] |= {"status": "RUNNING"}
    world.each_describe = lambda: world.jobs[one].update(ended) if world.calls["describejobs"] == 2 else None
    done = scar("log", "-n", "f2", "-ri", REQUEST, "--follow", "-o", "json")
    assert done.code == 7
    said = messages(done.documents)
    assert said.count("second attempt") == said.count("mine in lambda") == 1
    assert done.documents[-1]["job"]["exit_code"] == 7


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([fact(REQUEST, "script ended", exit_code=0), report(REQUEST)], 0),
        ([fact(REQUEST, "script ended", exit_code=3), fact(REQUEST, "a record failed", kind="ScriptFailed"), report(REQUEST)], 3),
        ([report(REQUEST, "\tStatus: error\tError Type: Unhandled")], 1),
        ([report(REQUEST, "\tStatus: timeout")], 124),
    ],
)  # fmt: skip
def test_following_a_run_in_lambda_ends_with_what_became_of_it(world: World, lines: list[str], code: int) -> None:
    name = f"f3-{code}"
    world.function(name)
    world.log(f"/aws/lambda/{name}", "s", start(REQUEST), *lines)
    watch = Either(world.mine, name, REQUEST)
    assert len(list(watch.poll())) == 1 + len(lines)
    assert (watch.ended, watch.exit_code) == (True, code)


def test_a_killed_run_is_followed_until_its_job_comes_or_cannot_come_any_more(world: World) -> None:
    world.function("f4", queue="scar-f4")
    world.log("/aws/lambda/f4", "s", start(REQUEST), report(REQUEST, "\tStatus: timeout"))
    clock = FakeClock()
    watch = Either(world.aws(clock), "f4", REQUEST)
    list(watch.poll())
    assert not watch.ended
    one = world.job("f4", "SUCCEEDED", exit_code=0, request_id=REQUEST)
    world.log("/aws/lambda/f4", "t", start(OTHER), fact(REQUEST, "handed over", job_id=one), report(OTHER))
    list(watch.poll())
    assert (watch.ended, watch.exit_code) == (True, 0)

    alone = Either(world.aws(clock), "f4", REQUEST)
    world.mine.logs.delete_log_stream(logGroupName="/aws/lambda/f4", logStreamName="t")
    list(alone.poll())
    clock.sleep(HAND_OVER_S + 1)
    assert (alone.ended, alone.exit_code) == (True, 124)


def test_a_run_that_is_given_up_is_not_waited_for(world: World) -> None:
    """TM13: its delivery could not hand it over in any attempt."""
    world.function("f7", queue="scar-f7")
    world.log("/aws/lambda/f7", "s", start(REQUEST), report(REQUEST, "\tStatus: timeout"))
    given_up = json.dumps({"request_id": OTHER, "fact": "a request is given up", "of": REQUEST})
    world.log("/aws/lambda/f7", "t", start(OTHER), given_up, report(OTHER))
    watch = Either(world.mine, "f7", REQUEST)
    assert given_up in [line.message for line in watch.poll()]
    assert (watch.ended, watch.exit_code) == (True, 124)


def test_a_run_that_has_not_begun_is_waited_for_and_not_for_ever(world: World) -> None:
    """BA16: a log that is late."""
    world.function("f5")
    clock = FakeClock()
    watch = Either(world.aws(clock), "f5", REQUEST)
    assert (list(watch.poll()), watch.ended) == ([], False)
    world.log("/aws/lambda/f5", "s", start(REQUEST), "here", report(REQUEST))
    assert [line.message for line in watch.poll()][1] == "here"
    assert watch.ended
    never = Either(world.aws(clock), "f5", OTHER)
    clock.sleep(NEW_RUN_S)
    with pytest.raises(NotFoundError, match=OTHER):
        list(never.poll())


def test_following_shows_what_comes_and_ctrl_c_ends_it(world: World) -> None:
    world.function("f6")
    world.log("/aws/lambda/f6", "s", "old")
    # What a shell starts in the background is deaf to Ctrl-C, and so is all that it starts: these tests too.
    words = ["env", "--default-signal=INT", sys.executable, "-m", "scar", "log", "-n", "f6", "--follow"]
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PYTHONPATH": f"{ROOT}:{ROOT}/faas-supervisor",
        **world.environ(),
    }
    watching = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    assert watching.stdout is not None
    assert watching.stdout.readline().endswith(" old\n")
    world.log("/aws/batch/job/f6", "j", "new")
    assert watching.stdout.readline().endswith(" new\n")
    began = time.monotonic()
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=20)
    assert (watching.returncode, out, "Traceback" in err) == (130, "", False)
    assert time.monotonic() - began < 10


def test_a_log_is_searched_for_a_text_as_it_is_written_and_is_of_a_time(world: World, scar: Scar) -> None:
    now = now_ms()
    world.log("/aws/lambda/l9", "a", (now - 7_200_000, 'old: "a b" c'), (now - 60_000, 'new: "a b" c'), (now, "a b"))
    world.log("/aws/batch/job/l9", "b", (now - 50_000, 'batch: "A B" c'), (now - 40_000, "path C:\\\\x c"))
    found = scar("log", "-n", "l9", "--search", '"a b" c', "-o", "json").documents
    assert messages(found) == ['old: "a b" c', 'new: "a b" c']
    assert messages(scar("log", "-n", "l9", "--search", "C:\\\\x", "-o", "json").documents) == ["path C:\\\\x c"]
    ago = scar("logs", "-n", "l9", "--since", "1h", "--until", "30s", "--query", "message").out.splitlines()
    assert [json.loads(line) for line in ago] == ['new: "a b" c', 'batch: "A B" c', "path C:\\\\x c"]
    none = scar("log", "-n", "l9", "--search", "nowhere")
    assert (none.code, none.out) == (0, "")
    assert "fits" in none.err
    assert scar("log", "-n", "l9", "--until", "1h", "--follow").code == 2
