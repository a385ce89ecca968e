"""A container-image function, invoked through boto3, runs as Lambda would run it."""

from __future__ import annotations

from lambda_bench import Local


def test_an_image_function_answers_and_the_second_time_from_a_warm_sandbox(local: Local) -> None:
    local.make("echo", handler='n=$((n+1)); printf \'{"n": %d, "event": %s}\' $n "$(cat /tmp/event)" >/tmp/reply')
    first = local.invoke("echo", {"hello": "world"})
    assert first["StatusCode"] == 200
    assert "FunctionError" not in first
    assert first["ExecutedVersion"] == "$LATEST"
    assert first["body"] == {"n": 1, "event": {"hello": "world"}}
    assert local.invoke("echo", {})["body"]["n"] == 2
