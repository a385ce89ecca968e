"""An asynchronous event that was accepted is delivered: with retries, across restarts, and never silently lost."""

from __future__ import annotations

import json
import time

import pytest
from botocore.exceptions import ClientError
from lambda_bench import ACCOUNT, FAIL, REGION, Local, arn, failed, queue, received, runs, send, until


def test_an_event_runs_soon_after_it_was_accepted(local: Local) -> None:
    local.make("async", "cat /tmp/event")
    send(local, "async", {"n": 1})
    until(lambda: '{"n": 1}' in local.logs.of("async"))
    until(lambda: not list((local.folder / "functions" / "events").glob("*.event")))


def test_a_one_megabyte_event_arrives_and_a_larger_one_is_refused(local: Local) -> None:
    """LO8"""
    local.make("big-async", "wc -c </tmp/event")
    send(local, "big-async", "x" * (1024 * 1024 - 2))
    until(lambda: str(1024 * 1024) in local.logs.of("big-async"))
    with pytest.raises(ClientError, match="RequestTooLargeException"):
        send(local, "big-async", "x" * 1024 * 1024)


def test_a_failing_event_is_retried_twice_and_then_lies_in_the_dead_letter_queue(local: Local) -> None:
    """LO8"""
    url = queue(local, "dead")
    local.make("dying", FAIL, DeadLetterConfig={"TargetArn": arn("dead", "sqs:{}:{}:")})
    send(local, "dying", {"try": "me"})
    message = received(local, url)
    assert json.loads(message["Body"]) == {"try": "me"}
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert attributes["ErrorMessage"] == "no"
    assert attributes["ErrorCode"] == "200"
    until(lambda: runs(local, "dying") == 3)
    assert attributes["RequestID"] in local.logs.of("dying")[0]
    (event,) = until(lambda: failed(local, "dying"))
    assert event["failures"] == 2
    assert "RetriesExhausted" in event["reason"]
    assert event["request_id"] == attributes["RequestID"]


def test_retries_and_destinations_follow_the_event_invoke_config(local: Local) -> None:
    url = queue(local, "failures")
    local.make("once", FAIL)
    local.lambda_.put_function_event_invoke_config(
        FunctionName="once",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn("failures", "sqs:{}:{}:")}},
    )
    send(local, "once", {"a": 1})
    record = json.loads(received(local, url)["Body"])
    assert record["version"] == "1.0"
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 1
    assert record["requestContext"]["functionArn"] == f"{arn('once')}:$LATEST"
    assert record["requestPayload"] == {"a": 1}
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["responsePayload"] == {"errorType": "Mine", "errorMessage": "no"}
    until(lambda: runs(local, "once") == 1)
    shown = local.lambda_.get_function_event_invoke_config(FunctionName="once")
    assert shown["MaximumRetryAttempts"] == 0
    local.lambda_.update_function_event_invoke_config(FunctionName="once", MaximumEventAgeInSeconds=60)
    shown = local.lambda_.get_function_event_invoke_config(FunctionName="once")
    assert (shown["MaximumRetryAttempts"], shown["MaximumEventAgeInSeconds"]) == (0, 60)


def test_success_is_told_to_a_function_to_a_topic_and_to_an_event_bus(local: Local) -> None:
    url = queue(local, "heard")
    queue_arn, sns, events = arn("heard", "sqs:{}:{}:"), local.client("sns"), local.client("events")
    topic = sns.create_topic(Name="done")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
    events.put_rule(Name="results", EventPattern=json.dumps({"source": ["lambda"]}))
    events.put_targets(Rule="results", Targets=[{"Id": "1", "Arn": queue_arn}])
    local.make("listener", "cat /tmp/event")
    for name, target in {
        "to-function": arn("listener"),
        "to-topic": topic,
        "to-bus": arn("default", "events:{}:{}:event-bus/"),
    }.items():
        local.make(name, "echo '\"fine\"' >/tmp/reply")
        destination = {"OnSuccess": {"Destination": target}}
        local.lambda_.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destination)
        send(local, name, name)
    until(lambda: any('"requestPayload": "to-function"' in line for line in local.logs.of("listener")))
    bodies = [json.loads(received(local, url)["Body"]) for _ in range(2)]
    by_topic = next(json.loads(body["Message"]) for body in bodies if "Message" in body)
    by_bus = next(body for body in bodies if "detail-type" in body)
    assert by_topic["requestContext"]["condition"] == "Success"
    assert by_topic["responsePayload"] == "fine"
    assert by_bus["detail-type"] == "Lambda Function Invocation Result - Success"
    assert by_bus["detail"]["requestPayload"] == "to-bus"


def test_no_function_is_its_own_destination_but_a_rule_of_the_bus_brings_its_failures_back(local: Local) -> None:
    """Batch's hand-over of runs that Lambda has given up on rests on this."""
    local.make("back", FAIL)
    with pytest.raises(ClientError, match="You can't specify the function as a destination for itself"):
        local.lambda_.put_function_event_invoke_config(
            FunctionName="back", DestinationConfig={"OnFailure": {"Destination": arn("back") + ":$LATEST"}}
        )
    events = local.client("events")
    wanted = {"source": ["lambda"], "detail": {"requestContext": {"functionArn": [arn("back") + ":$LATEST"]}}}
    events.put_rule(Name="back", EventPattern=json.dumps(wanted))
    local.make("answering", "cat /tmp/event")
    events.put_targets(Rule="back", Targets=[{"Id": "1", "Arn": arn("answering"), "InputPath": "$.detail"}])
    local.lambda_.put_function_event_invoke_config(
        FunctionName="back",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": arn("default", "events:{}:{}:event-bus/")}},
    )
    send(local, "back", "mine")
    until(lambda: any('"requestPayload": "mine"' in line for line in local.logs.of("answering")))
    (line,) = [line for line in local.logs.of("answering") if "requestPayload" in line]
    record = json.loads(line)
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert "detail-type" not in record


def test_an_event_of_a_deleted_function_ends_as_a_failure_that_is_told(local: Local) -> None:
    local.make("gone", FAIL)
    token = local.functions.accept(arn("gone"), b"{}", account=ACCOUNT, region=REGION)
    local.lambda_.delete_function(FunctionName="gone")
    local.functions.dispatch(token)
    (event,) = until(lambda: failed(local, "gone"))
    assert event["reason"] == "the function does not exist any more"
    assert any("does not exist any more" in line for line in local.told)


def test_an_event_waits_for_reserved_concurrency_and_is_no_failure(local: Local) -> None:
    local.make("waiting", "sleep 0.3; echo ran")
    local.lambda_.put_function_concurrency(FunctionName="waiting", ReservedConcurrentExecutions=1)
    started = time.monotonic()
    for number in range(4):
        send(local, "waiting", number)
    until(lambda: local.logs.of("waiting").count("ran") == 4)
    assert time.monotonic() - started > 1.2
    assert not failed(local, "waiting")


def test_an_event_goes_to_the_version_it_was_sent_to(local: Local) -> None:
    local.make("versions", "echo first")
    local.lambda_.publish_version(FunctionName="versions")
    local.lambda_.update_function_configuration(
        FunctionName="versions", Environment={"Variables": {"HANDLER": "echo second", "INIT": ":"}}
    )
    send(local, "versions", Qualifier="1")
    until(lambda: "first" in local.logs.of("versions"))


def test_a_topic_invokes_its_functions_without_waiting_for_them(local: Local) -> None:
    local.make("subscriber", "sleep 1; cat /tmp/event")
    sns = local.client("sns")
    topic = sns.create_topic(Name="news")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn("subscriber"))
    started = time.monotonic()
    sns.publish(TopicArn=topic, Message="extra, extra")
    assert time.monotonic() - started < 0.8
    until(lambda: any("extra, extra" in line for line in local.logs.of("subscriber")))
