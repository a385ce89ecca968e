"""A disk that is full before, during and after an event's work: nothing half is used or published, and the next event finds room again.

The small disks are real (a tmpfs in a mount namespace of the agent's own, for which nobody has to be root); at single calls the error is
injected, so that there is one for every write.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from faassupervisor.contract import Storage
from tests.chaos.agents import Watched, left_in, watched
from tests.supervisor.batch_lab import Handing, handing, told_by
from tests.supervisor.conftest import Bucket, Lab, bucket, lab, out, s3_client, s3_endpoint
from tests.support.system_calls import Call, fail, let

__all__ = ["bucket", "handing", "lab", "out", "s3_client", "s3_endpoint"]

MIB = 1024 * 1024
DISK_MIB = 8
COPY = 'echo "$(ls -A "$TMP_INPUT_DIR/../.." | wc -l)"; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"'
FILLING = 'dd if=/dev/zero of="$TMP_OUTPUT_DIR/../../filler" bs=64k count=256 2>/dev/null; '
# What a full disk refuses. The script's own calls are its own affair.
NEEDS_ROOM = frozenset({"mkdir", "openat", "write", "rename", "ftruncate", "fallocate"})


def on_a_small_disk(lab: Lab, first: str = "true") -> tuple[str, ...]:
    """What stands before a command that is to find a small disk as its temporary directory, on which `first` was done."""
    mount = f'mount -t tmpfs -o size={DISK_MIB}m,mode=700 small "$0" && {{ {first}; exec "$@"; }}'
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(lab.temporary))


def its_disk(agent: Watched) -> Path:
    """The agent's temporary directory as the agent sees it."""
    return Path(f"/proc/{agent.traced.process.pid}/root{agent.agent.temporary}")


def works(agent: Watched, bucket: Bucket, name: str, place: Path | None = None) -> None:
    content = f"works after {name}".encode()
    runs = agent.answers({"Records": [bucket.put(f"in/{name}", content)]}, "r-after")["runs"]
    assert runs[0]["output"] == "1\n", f"after {name}, beside the record's own place: {runs[0]['output']}"
    assert bucket.get("out/copy") == content
    assert left_in(place or its_disk(agent)) == [], f"after {name}"
    bucket.client.delete_object(Bucket=bucket.name, Key="out/copy")


def test_an_object_beyond_the_disk_is_refused_before_its_first_byte_with_both_numbers(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF11: in mode lambda. Where Batch may do better, the record is handed over (`test_agent_batch_hand_over`)."""
    size = (DISK_MIB + 1) * MIB
    record = bucket.put("in/large", bytes(size))
    with watched(lab, lab.function(COPY, outputs=out), before=on_a_small_disk(lab)) as agent:
        agent.traced.watch()
        answer = agent.agent.invoke({"Records": [record]})
        written = [call for call in agent.traced.made if call.name == "write"]
        numbers = re.search(r"has (\d+) bytes and only (\d+) are free", answer.document["errorMessage"])
        assert answer.error_type == "StageInFailed" and len(written) == 1, written  # the event's own file
        assert numbers is not None and int(numbers[1]) == size and 0 < int(numbers[2]) <= DISK_MIB * MIB
        assert "ephemeral storage" in answer.document["errorMessage"]
        works(agent, bucket, "an object beyond the disk")


def test_a_script_that_fills_the_disk_fails_alone_and_publishes_nothing(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF12: in the middle of the script."""
    script = (
        f'case "$INPUT_FILE_PATH" in *greedy) head -c 20M /dev/zero > "$TMP_OUTPUT_DIR/copy" || exit 3;; esac; {COPY}'
    )
    with watched(lab, lab.function(script, outputs=out), before=on_a_small_disk(lab)) as agent:
        answer = agent.agent.invoke({"Records": [bucket.put("in/greedy")]})
        assert (answer.error_type, answer.document["exit_code"]) == ("ScriptFailed", 3), agent.agent.log
        assert bucket.keys("out/") == []
        works(agent, bucket, "a script that filled the disk")


def test_outputs_are_published_from_a_disk_that_is_full(lab: Lab, bucket: Bucket, out: tuple[Storage, ...]) -> None:
    """XF12: in the middle of stage-out, which needs no room; what filled the disk, outside of the record's own place, goes too."""
    content = b"made before the disk was full"
    script = f'{COPY}; case "$INPUT_FILE_PATH" in *last) {FILLING} : ;; esac'
    with watched(lab, lab.function(script, outputs=out), before=on_a_small_disk(lab)) as agent:
        agent.answers({"Records": [bucket.put("in/last", content)]}, "r-1")
        assert bucket.get("out/copy") == content
        works(agent, bucket, "a disk that was full at the end")


def test_a_disk_that_is_full_from_the_start_fails_the_event_and_not_the_sandbox(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...]
) -> None:
    """XF12: an image's own files, say, have left nothing; the event says so."""
    full = on_a_small_disk(lab, 'dd if=/dev/zero of="$0/of-the-image" bs=64k count=256 2>/dev/null')
    with watched(lab, lab.function(COPY, outputs=out), before=full) as agent:
        answer = agent.agent.invoke({"Records": [bucket.put("in/a")]})
        assert answer.error_type == "AgentFailed" and "No space left on device" in answer.document["errorMessage"]
        (its_disk(agent) / "of-the-image").unlink()
        works(agent, bucket, "a disk that was full from the start")


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EIO])
def test_an_error_at_any_write_of_stage_in_fails_that_event_cleanly(
    lab: Lab, bucket: Bucket, out: tuple[Storage, ...], trouble: int
) -> None:
    """XF12: at each call that needs room, once and from there on, by one agent that goes on."""
    content = b"x" * (2 * MIB + 1)
    with watched(lab, lab.function(COPY, outputs=out)) as agent:

        def of_stage_in(call: Call) -> bool:
            if call.process != agent.traced.process.pid or call.name not in NEEDS_ROOM:
                return False
            return call.target.startswith(str(lab.temporary)) if call.target else call.name != "openat"

        agent.traced.watch()
        agent.answers({"Records": [bucket.put("in/a", content)]}, "recorded")
        points = [str(call) for call in agent.traced.made if of_stage_in(call)]
        assert len(points) >= 8, points
        bucket.client.delete_object(Bucket=bucket.name, Key="out/copy")
        for number, point in enumerate(points, start=1):
            for once in (True, False):
                shape = {"at": number} if once else {"since": number}
                agent.traced.watch(fail(trouble, where=of_stage_in, **shape))
                answer = agent.agent.invoke({"Records": [bucket.put("in/a", content)]})
                refused = [str(call) for call in agent.traced.failed]
                agent.traced.watch(let)
                where = f"{errno.errorcode[trouble]} at {point}, {refused}"
                assert refused and answer.error_type in {"StageInFailed", "AgentFailed"}, f"{where}: {answer.body!r}"
                reason = answer.document["errorMessage"]
                assert "None" not in reason, where
                assert ("No space left" if trouble == errno.ENOSPC else "Input/output error") in reason, where
                assert left_in(lab.temporary) == [], where
                assert bucket.keys("out/") == [], where
        works(agent, bucket, "all of them", lab.temporary)


@pytest.mark.parametrize(("trouble", "reasons"), [(errno.ENOSPC, ["no room"]), (errno.EIO, [])])
def test_a_disk_that_others_fill_in_the_middle_of_stage_in_is_a_lack_of_room_that_batch_may_not_have(
    handing: Handing, trouble: int, reasons: list[str]
) -> None:
    """XF11, XF12: in lambda-batch it is handed over; a disk that is broken is a failure."""
    with watched(handing.lab, handing.function(COPY), handing.variables()) as agent:

        def own(call: Call) -> bool:
            return call.name == "write" and call.process == agent.traced.process.pid

        agent.traced.watch(fail(trouble, since=2, where=own))  # the first is the event's own file
        answer = agent.agent.invoke({"Records": [handing.bucket.put("in/a", b"x" * 4321)]})
        refused = [str(call) for call in agent.traced.failed]
        agent.traced.watch(let)
        assert refused, agent.agent.log
        assert len(handing.batch.jobs) == len(reasons)
        assert [told["reason"] for told in told_by(agent.agent, "handed over", len(reasons))] == reasons
        assert (answer.error_type is None) == bool(reasons), answer.body
