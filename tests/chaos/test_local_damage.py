"""LO4: whatever file of a state is damaged, and however, the local AWS says so and leaves it as it is, or has lost nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from botocore.exceptions import FlexibleChecksumError

from scar.local.journal import OPENING
from tests.chaos import crash_story
from tests.chaos.choice import Choice
from tests.chaos.crash_states import copied
from tests.chaos.crash_story import Daemon, Facts, after, etag, seen, steps, wrong
from tests.chaos.local_forks import Clients, Forks, until

Damage = Callable[[Path], bool]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as made:
        yield made


@pytest.fixture(scope="module")
def rich(forks: Forks, tmp_path_factory: pytest.TempPathFactory, choice: Choice) -> Path:
    """A state with a file of every kind, its daemon killed: journals hold records, an event waits, one has failed, another is to be tried again."""
    folder = tmp_path_factory.mktemp("rich") / "state"
    forks.start(folder, "--iam", "off")
    crash_story.prepare(forks.clients)
    assert forks.stop() == 0
    forks.start(folder)
    clients = forks.clients
    for step in steps(choice.random("story")):
        step.ask(clients)
    local = Daemon(clients.url)
    lambda_ = clients("lambda")
    local.__dict__.update(
        role=lambda_.get_function(FunctionName="hears")["Configuration"]["Role"], image=_image_of(clients)
    )
    local.make("waits", ":")
    lambda_.put_function_concurrency(FunctionName="waits", ReservedConcurrentExecutions=0)
    local.make("fails", "end=error; echo '{}' >/tmp/reply")
    lambda_.put_function_event_invoke_config(FunctionName="fails", MaximumRetryAttempts=0)
    for name in ("waits", "fails"):
        lambda_.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")
    clients("ecr").put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    until("the failure", lambda: list((folder / "functions" / "events" / "failed").glob("*.json")))
    (waiting,) = (folder / "functions" / "events").glob("*.event")
    waiting.with_suffix(".tries").write_text(json.dumps({"failures": 1, "reason": "x", "due_at": 0}))
    until("the events", lambda: len(crash_story.heard(clients)) == 4)
    until("the logs", lambda: len(list((folder / "logs").glob("*.jsonl"))) >= 4)
    forks.kill()
    return folder


def _image_of(clients: Clients) -> str:
    return str(clients("lambda").get_function(FunctionName="hears")["Code"]["ImageUri"])


def cut(path: Path) -> bool:
    if path.suffix in (".journal", ".jsonl"):
        return False  # they end where the machine stopped, and what is whole before stays: held by test_state_damage
    return changed(path, lambda content: content[: len(content) * 2 // 3])


def emptied(path: Path) -> bool:
    return changed(path, lambda _: b"")


def flipped(path: Path) -> bool:
    """A bit in the middle; of log lines in the first, since their text may be anything."""

    def flip(content: bytes) -> bytes:
        at = 1 if path.suffix == ".jsonl" else len(content) // 2
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if content else content

    return changed(path, flip)


def newer(path: Path) -> bool:
    """As a later version would write it."""

    def raise_(content: bytes) -> bytes:
        if content.startswith(OPENING):
            from scar.local.journal import _record

            return _record(b"scar-local-journal 9") + content[len(OPENING) :]
        if path.name == "scar-local-state":
            return b"99\n"
        return re.sub(rb'^(\{"format": "scar-local-snapshot", "schema": )1', rb"\g<1>9", content)

    return changed(path, raise_)


def unreadable(path: Path) -> bool:
    """There, but not a file."""
    path.unlink()
    path.mkdir()
    return True


def changed(path: Path, change: Callable[[bytes], bytes]) -> bool:
    before = path.read_bytes()
    after_ = change(before)
    path.write_bytes(after_)
    return after_ != before


DAMAGES: Final[tuple[Damage, ...]] = (cut, emptied, flipped, newer, unreadable)
# Written anew by every start, never read, or nothing but room.
_FLEETING: Final = {"daemon.log", "lock", "daemon.json", "port", "reserve"}


def kinds(folder: Path) -> dict[str, Path]:
    """One file of every kind that lies there; what is told apart by a number, an id or a digest is one kind."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not path.is_symlink() and name.parts[0] not in ("sandboxes", "rootfs"):
            found.setdefault(re.sub(r"[0-9a-f]{8,}(-[0-9a-f]+)*|\b[0-9a-f]{2}\b|\d+", "#", str(name)), path)
    return found


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in _FLEETING
    }


def test_every_file_of_a_state_that_is_damaged_is_refused_and_left_alone_or_nothing_is_lost(
    rich: Path, forks: Forks, tmp_path: Path, choice: Choice
) -> None:
    """LO4: over every kind of file that is there, so that a new one cannot be forgotten."""
    facts = after(steps(choice.random("story")))
    files = kinds(rich)
    assert len(files) > 20, sorted(files)
    body, _ = facts["object", "plain", "in/mark-1"]
    files["objects/#/#"] = next(
        path for path in (rich / "objects").rglob("*") if path.is_file() and etag(path.read_bytes()) == body
    )
    pairs = [(path, damage) for path in files.values() for damage in DAMAGES]
    refused = 0
    for number, (path, damage) in enumerate(choice.of("damage", pairs, 10)):
        state = copied(rich, tmp_path / f"{number}")
        damaged = state / path.relative_to(rich)
        if damage(damaged):
            refused += judged(forks, state, damaged, facts, f"{path.relative_to(rich)} {damage.__name__}")
        shutil.rmtree(state)
    assert refused >= 3


def judged(forks: Forks, state: Path, damaged: Path, facts: Facts, point: str) -> bool:
    """Whether it was refused; AssertionError when it was neither, or the user is not told how to go on."""
    before = contents(state)
    code = forks.try_start(state)
    if code is None:
        found = what_is_left(forks.clients)
        assert found is None or wrong(found, facts, facts) == {}, f"{point}: {wrong(found, facts, facts)}"
        forks.kill()
        digest = before.get(str(damaged.relative_to(state)))
        kept = digest is None or digest in contents(state).values() or not digest_matters(damaged)
        assert kept, f"{point}: nobody has it any more"
        return False
    said = forks.output(state)
    assert code == 1, f"{point}: {code} {said}"
    assert ("Traceback" not in said and str(damaged) in said) or damaged.parent.parent.name == "objects", (
        f"{point}: {said}"
    )
    assert "scar local reset" in said or damaged.is_dir(), f"{point}: {said}"
    left = contents(state)
    assert left == before, (point, {name for name in {*left, *before} if left.get(name) != before.get(name)})
    return True


def digest_matters(damaged: Path) -> bool:
    """Not of what is made from something else, or is known to be whole again."""
    return damaged.suffix in (".event", ".snapshot", ".journal", ".jsonl")


def what_is_left(clients: Clients) -> Facts | None:
    """None when a reader is told that the bytes of an object are not what they were."""
    try:
        return {
            fact: value
            for fact, value in seen(clients).items()
            if fact not in (("function", "waits"), ("function", "fails"))
        }
    except FlexibleChecksumError:
        return None
