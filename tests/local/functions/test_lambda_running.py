"""A container-image function, invoked through boto3, runs as Lambda would run it."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from lambda_bench import ACCOUNT, COUNT, REGION, Local, error_of, processes, until


def test_an_image_function_answers_and_the_second_time_from_a_warm_sandbox(local: Local) -> None:
    local.make("echo", COUNT)
    first = local.invoke("echo", {"hello": "world"})
    assert first["StatusCode"] == 200
    assert "FunctionError" not in first
    assert first["ExecutedVersion"] == "$LATEST"
    assert first["body"] == {"n": 1, "event": {"hello": "world"}}
    assert local.invoke("echo", {})["body"]["n"] == 2


def test_the_environment_is_lambdas_and_nothing_of_this_process_leaks_in(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "must not be seen")
    local.make(
        "env",
        "(unset HANDLER; printf '\"'; env | tr '\\n' '|'; printf '\"') >/tmp/reply",
        variables={"MINE": "yes"},
    )
    seen = dict(entry.partition("=")[::2] for entry in local.invoke("env")["body"].split("|"))
    assert seen["MINE"] == "yes"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "env"
    assert seen["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128"
    assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == REGION
    assert seen["AWS_ENDPOINT_URL"] == local.url
    assert seen["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/env"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen["AWS_LAMBDA_LOG_STREAM_NAME"])
    assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert seen["AWS_SESSION_TOKEN"]
    assert "CANARY" not in seen


def test_the_function_is_user_993_and_can_write_below_tmp_only(local: Local) -> None:
    look = '(: >/forbidden) 2>/dev/null && touch=yes || touch=no; : >/tmp/allowed; printf \'["%s", "%s"]\' "$(id -u)" "$touch" >/tmp/reply'
    local.make("user", look)
    assert local.invoke("user")["body"] == ["993", "no"]


def test_image_config_overrides_what_the_image_says(local: Local) -> None:
    config = {"EntryPoint": ["/bin/busybox", "sh"], "Command": ["/bootstrap", "extra"], "WorkingDirectory": "/bin"}
    local.make("override", 'printf \'"%s %s"\' "$PWD" "$1" >/tmp/reply', ImageConfig=config)
    assert local.invoke("override")["body"] == "/bin extra"


def test_a_run_above_its_timeout_is_killed_with_all_it_started(local: Local) -> None:
    """LO8"""
    local.make("slow", "sleep 3717 & (sleep 3717 & wait) & sleep 3717", Timeout=1)
    started = time.monotonic()
    answer = local.invoke("slow", LogType="Tail")
    assert time.monotonic() - started < 3
    kind, message = error_of(answer)
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert kind == "Sandbox.Timedout"
    assert message == f"RequestId: {request_id} Error: Task timed out after 1.00 seconds"
    assert "Task timed out after 1.00 seconds" in answer["log"]
    assert "Status: timeout" in answer["log"]
    assert processes("sleep 3717") == []
    assert local.invoke("slow")["body"]["errorType"] == "Sandbox.Timedout"


@pytest.mark.parametrize(
    ("name", "handler", "expected"),
    [
        ("exit-3", "exit 3", "Runtime exited with error: exit status 3"),
        ("exit-0", "exit 0", "Runtime exited without providing a reason"),
        ("kill-9", "sh -c 'kill -9 $PPID'; sleep 1", "Runtime exited with error: signal: killed"),
    ],
)
def test_a_runtime_that_exits_fails_with_how_it_ended(local: Local, name: str, handler: str, expected: str) -> None:
    local.make(name, f"echo last words; {handler}")
    answer = local.invoke(name, LogType="Tail")
    kind, message = error_of(answer)
    assert kind == "Runtime.ExitError"
    assert message.endswith(f"Error: {expected}")
    assert "last words" in answer["log"]
    assert expected in answer["log"]


def test_a_function_above_its_memory_is_killed_and_says_so(local: Local) -> None:
    """LO8"""
    local.make("greedy", "dd if=/dev/zero of=/dev/null bs=400M count=1; sleep 1", MemorySize=128)
    answer = local.invoke("greedy", LogType="Tail")
    kind, message = error_of(answer)
    assert kind == "Runtime.ExitError"
    assert message.endswith("Runtime exited with error: signal: killed")
    assert "Max Memory Used: 1" in answer["log"]


def test_an_error_the_runtime_reports_reaches_the_caller(local: Local) -> None:
    local.make("failing", 'end=error; echo \'{"errorType":"Mine","errorMessage":"no"}\' >/tmp/reply')
    assert error_of(local.invoke("failing")) == ("Mine", "no")


def test_an_error_of_initialisation_reaches_the_caller(local: Local) -> None:
    init = 'echo \'{"errorType":"Init","errorMessage":"bad"}\' >/tmp/e; post $api/init/error /tmp/e; exit 1'
    local.make("no-init", init=init)
    answer = local.invoke("no-init", LogType="Tail")
    assert error_of(answer) == ("Init", "bad")
    until(lambda: any("Phase: init\tStatus: error" in line for line in local.logs.of("no-init")))


def test_an_image_whose_program_is_missing_fails_the_invocation(local: Local) -> None:
    local.make("missing", ImageConfig={"EntryPoint": ["/no/such/program"]})
    assert "FunctionError" in local.invoke("missing")


def test_ten_at_once_run_in_ten_sandboxes(local: Local) -> None:
    local.make("many", f"sleep 0.5; {COUNT}")
    with ThreadPoolExecutor(10) as threads:
        started = time.monotonic()
        answers = list(threads.map(lambda number: local.invoke("many", number), range(10)))
    assert time.monotonic() - started < 4
    assert sorted(answer["body"]["event"] for answer in answers) == list(range(10))
    counts = local.functions.status()["functions"][f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:many"]
    assert counts == {"warm": counts["warm"], "busy": 0, "queued": 0, "runs": 10, "failures": 0}
    assert 1 < counts["warm"] <= 10


def test_reserved_concurrency_refuses_what_is_above_it(local: Local) -> None:
    local.make("reserved", "sleep 0.6")
    local.lambda_.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(local.invoke, "reserved")
        time.sleep(0.3)
        with pytest.raises(ClientError) as refused:
            local.invoke("reserved")
        assert "FunctionError" not in first.result()
    assert refused.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    local.lambda_.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError, match="TooManyRequests"):
        local.invoke("reserved")


def test_a_reply_above_six_megabytes_is_an_error_and_the_sandbox_serves_on(local: Local) -> None:
    """LO8"""
    local.make(
        "big",
        "size=$(cat /tmp/event); { printf '\"'; head -c $size /dev/zero | tr '\\000' x; printf '\"'; } >/tmp/reply",
    )
    kind, message = error_of(local.invoke("big", 6_400_000))
    assert kind == "Function.ResponseSizeTooLarge"
    assert message == "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    assert len(local.invoke("big", 6_000_000)["body"]) == 6_000_000


def test_a_request_of_six_megabytes_arrives_and_a_larger_one_is_refused(local: Local) -> None:
    """LO8"""
    local.make("large", "wc -c </tmp/event >/tmp/reply")
    assert local.invoke("large", "x" * (6 * 1024 * 1024 - 2))["body"] == 6 * 1024 * 1024
    with pytest.raises(ClientError) as refused:
        local.invoke("large", "x" * (6 * 1024 * 1024))
    assert refused.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_body_that_is_not_json_is_refused(local: Local) -> None:
    local.make("strict")
    with pytest.raises(ClientError, match="InvalidRequestContentException"):
        local.lambda_.invoke(FunctionName="strict", Payload=b"{nonsense")


def test_the_client_context_reaches_the_runtime(local: Local) -> None:
    local.make("context", "sed -n 's/^Lambda-Runtime-Client-Context: //p' /tmp/next >/tmp/reply")
    context = base64.b64encode(b'{"who": "me"}').decode()
    assert local.invoke("context", {}, ClientContext=context)["body"] == {"who": "me"}


def test_a_dry_run_runs_nothing(local: Local) -> None:
    local.make("dry")
    assert local.invoke("dry", InvocationType="DryRun")["StatusCode"] == 204
    assert not local.logs.of("dry")


def test_an_unknown_function_is_not_found(local: Local) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        local.invoke("nobody")


def test_a_function_of_an_image_that_is_not_there_cannot_be_made(local: Local) -> None:
    uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/scar/test:never"
    with pytest.raises(ClientError, match="does not exist") as refused:
        local.make("unborn", image=uri)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"


def test_the_log_holds_start_output_end_and_report_in_order_and_in_time(local: Local) -> None:
    local.make("talking", "echo one; echo two >&2; sleep 1; printf three")
    done = threading.Thread(target=local.invoke, args=("talking",))
    done.start()
    until(lambda: "two" in local.logs.of("talking"))
    assert not any(line.startswith("END") for line in local.logs.of("talking"))  # it came while the run went on
    done.join()
    until(lambda: local.logs.of("talking")[-1].startswith("REPORT"))
    lines = local.logs.of("talking")
    request_id = lines[0].split()[2]
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[1:3] == ["one", "two"]
    assert f"END RequestId: {request_id}" in lines
    report = lines[-1]
    assert re.fullmatch(
        rf"REPORT RequestId: {request_id}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB"
        r"\tMax Memory Used: \d+ MB\tInit Duration: [\d.]+ ms",
        report,
    )
    local.invoke("talking")
    until(lambda: sum(line.startswith("REPORT") for line in local.logs.of("talking")) == 2)
    assert "Init Duration" not in local.logs.of("talking")[-1]


def test_the_tail_is_the_last_four_kilobytes(local: Local) -> None:
    local.make("tail", "i=0; while [ $i -lt 500 ]; do echo line number $i; i=$((i+1)); done")
    answer = local.invoke("tail", LogType="Tail")
    assert len(answer["log"].encode()) == 4096
    assert "line number 499" in answer["log"]
    assert answer["log"].rstrip().split("\n")[-1].startswith("REPORT")
    assert "LogResult" not in local.invoke("tail")


def test_a_chatty_function_loses_no_line_and_takes_linear_time(local: Local) -> None:
    local.make(
        "chatty",
        "yes 0123456789abcde | head -n 200000",
        Timeout=60,
    )
    started = time.monotonic()
    local.invoke("chatty")
    until(lambda: local.logs.of("chatty")[-1].startswith("REPORT"))
    assert sum(line == "0123456789abcde" for line in local.logs.of("chatty")) == 200_000
    assert time.monotonic() - started < 20


def test_versions_and_aliases_run_their_own_code_and_variables(local: Local) -> None:
    local.make("versioned", "echo 1 >/tmp/reply")
    local.lambda_.publish_version(FunctionName="versioned")
    local.lambda_.create_alias(FunctionName="versioned", Name="live", FunctionVersion="1")
    local.lambda_.update_function_configuration(
        FunctionName="versioned", Environment={"Variables": {"HANDLER": "echo 2 >/tmp/reply", "INIT": ":"}}
    )
    assert local.invoke("versioned")["body"] == 2
    by_qualifier = local.invoke("versioned", Qualifier="1")
    assert by_qualifier["body"] == 1
    assert by_qualifier["ExecutedVersion"] == "1"
    assert local.invoke("versioned", Qualifier="live")["body"] == 1
    assert local.invoke("versioned:live")["body"] == 1


def test_a_run_in_progress_ends_with_the_old_code_and_the_next_has_the_new(local: Local) -> None:
    local.make("changing", "sleep 1; echo '\"old\"' >/tmp/reply")
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(local.invoke, "changing")
        time.sleep(0.4)
        local.lambda_.update_function_configuration(
            FunctionName="changing", Environment={"Variables": {"HANDLER": "echo '\"new\"' >/tmp/reply", "INIT": ":"}}
        )
        assert local.invoke("changing")["body"] == "new"
        assert running.result()["body"] == "old"
    assert local.invoke("changing")["body"] == "new"
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:changing"
    assert until(lambda: local.functions.status()["functions"][arn]["warm"]) == 1


def test_a_deleted_functions_sandboxes_go(local: Local) -> None:
    local.make("short-lived", "sleep 4242 & :")
    local.invoke("short-lived")
    assert processes("sleep 4242")
    local.lambda_.delete_function(FunctionName="short-lived")
    until(lambda: not processes("sleep 4242"))


def test_settings_that_moto_drops_are_kept_and_shown(local: Local) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"
    local.make("kept", DeadLetterConfig={"TargetArn": queue}, LoggingConfig={"LogFormat": "Text", "LogGroup": "/mine"})
    shown = local.lambda_.get_function_configuration(FunctionName="kept")
    assert shown["DeadLetterConfig"]["TargetArn"] == queue
    assert shown["LoggingConfig"]["LogGroup"] == "/mine"
    local.lambda_.update_function_configuration(FunctionName="kept", EphemeralStorage={"Size": 1024}, Timeout=7)
    shown = local.lambda_.get_function(FunctionName="kept")
    assert shown["Configuration"]["EphemeralStorage"]["Size"] == 1024
    assert shown["Configuration"]["DeadLetterConfig"]["TargetArn"] == queue
    assert shown["Code"]["ResolvedImageUri"] == local.image
    local.invoke("kept")
    until(lambda: any(group == "/mine" for group, *_ in local.logs.lines))
    assert json.dumps(shown["Configuration"]["ImageConfigResponse"])
