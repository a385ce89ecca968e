"""Names that uploaders choose: what a script finds of them, whatever shell runs it and whatever brought the event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from faassupervisor.contract import Storage
from tests.supervisor.conftest import Agent, Bucket, Lab

# Three shells, each with the names as it would use them: one argument, no expansion, the very file.
SHOW = r"""
for shell in dash bash "busybox sh"; do
  $shell -c 'set -- "$INPUT_FILE_PATH" "$STORAGE_OBJECT_KEY"; printf "%s|%s|" "$#" "$2"; cat -- "$1"; echo'
done
find "$TMP_INPUT_DIR/.." -type f | wc -l
"""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Agent]:
    with ExitStack() as stack:
        yield Lab(tmp_path_factory.mktemp("keys"), s3_endpoint, stack).agent(SHOW)


def expected(key: str, content: str) -> list[str]:
    # The input file and the event are all that is there: nothing of the agent's can be named by a key, or found beside it.
    return [*[f"2|{key}|{content}"] * 3, "2"]


HOSTILE = [
    "in/$(touch pwned) `id` $HOME ~ {a,b} !! #x",
    "in/-rf",
    "in/--help",
    "in/*?[a]",
    'in/it\'s "quoted" \\n \\',
    "in/ blank  ",
    "in/script",
    "in/spec.json",
    "in/event.json",
    "in/agent/script",
    "in/__main__.py",
    "in/.profile",
    "in/..",
    "in/../../agent/event.json",
    "/etc/passwd",
    "in//a",
]


def test_a_name_is_one_argument_in_every_shell_and_names_nothing_of_ours(agent: Agent, bucket: Bucket) -> None:
    """KEY2, KEY3, KEY6, KEY7, KEY8: each in a directory of its own, with nothing of another's."""
    answer = agent.invoke({"Records": [bucket.put(key, f"content {key!a}".encode()) for key in HOSTILE]})
    assert answer.error_type is None, answer.body
    for key, run in zip(HOSTILE, answer.document["runs"], strict=True):
        assert run["key"] == key
        assert run["output"].splitlines() == expected(key, f"content {key!a}")
    assert list(agent.temporary.iterdir()) == []


def test_the_same_key_by_whatever_brings_it_is_the_same_object(agent: Agent, bucket: Bucket) -> None:
    """KEY1, KEY9, EV9: encoded once by S3, not at all by EventBridge; two keys that differ in case are two objects."""
    for key, content in (("in/a+b %2B.txt", b"lower"), ("in/A+b %2B.txt", b"upper")):
        note = {"Records": [bucket.put(key, content)]}
        named = {"bucket": {"name": bucket.name}, "object": {"key": key}}
        bridge = {"source": "aws.s3", "detail-type": "Object Created", "detail": named}
        message = {"eventSource": "aws:sqs", "messageId": "m-1"}
        topic = {"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": json.dumps(note)}}
        for event in (note, bridge, {"Records": [topic]}):
            answer = agent.invoke(event)
            assert answer.document["runs"][0]["key"] == key
            assert answer.document["runs"][0]["output"].splitlines() == expected(key, content.decode())
        before = agent.log.count(f"2|{key}|")
        for inner in (note, bridge):
            answer = agent.invoke({"Records": [{**message, "body": json.dumps(inner)}]})
            assert answer.document == {"batchItemFailures": []}
        agent.says(f"2|{key}|")
        assert agent.log.count(f"2|{key}|{content.decode()}\n") == before + 6


def test_an_older_event_never_replaces_what_a_newer_one_made_of_the_same_object(lab: Lab, bucket: Bucket) -> None:
    """EV6: the older content is gone, so its event fails by name; its own output is not made from other content either."""
    agent = lab.agent('cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/a"', outputs=(Storage("s3", bucket.name, "out"),))
    older, newer = bucket.put("in/a", b"older"), bucket.put("in/a", b"newer")
    assert agent.invoke({"Records": [newer]}).error_type is None
    late = agent.invoke({"Records": [older]})
    assert (late.error_type, "was overwritten after this event" in late.document["errorMessage"]) == (
        "StageInFailed",
        True,
    )
    assert bucket.get("out/a") == b"newer"
    again = agent.invoke({"Records": [newer]})
    assert (again.error_type, bucket.get("out/a")) == (None, b"newer")  # EV5: a duplicate publishes the same bytes


def test_an_older_version_replaces_nothing_and_publishes_what_only_it_makes(lab: Lab, bucket: Bucket) -> None:
    """EV6: each version runs on its own content, whatever the order of their events."""
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    script = 'cd "$TMP_OUTPUT_DIR"; cp "$INPUT_FILE_PATH" a; cp a "only-of-$(cat a)"'
    agent = lab.agent(script, outputs=(Storage("s3", bucket.name, "out"), Storage("s3", bucket.name, "large", ("a",))))
    older, newer = bucket.put("in/a", b"older"), bucket.put("in/a", b"newer")
    assert agent.invoke({"Records": [newer]}).error_type is None
    late = agent.invoke({"Records": [older]})
    assert late.error_type is None, late.body
    assert late.document["runs"][0]["outputs"] == [f"s3://{bucket.name}/out/only-of-older"]
    assert bucket.keys("out/") == ["out/a", "out/only-of-newer", "out/only-of-older"]
    assert (bucket.get("out/a"), bucket.get("large/a")) == (b"newer", b"newer")
    agent.says("the object has a newer version")
    assert agent.invoke({"Records": [newer]}).document["runs"][0]["outputs"][0] == f"s3://{bucket.name}/out/a"
