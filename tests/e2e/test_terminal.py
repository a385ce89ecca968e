"""The person at the terminal, with runs that are real: wait for what an upload starts, run again for what is there, ask why it failed."""

from __future__ import annotations

import json

from tests.e2e.conftest import Local

SCRIPT = """#!/usr/bin/env python3
import os, shutil, sys
if os.environ["INPUT_FILE_PATH"].endswith("bad"):
    print("cannot read this"); sys.exit(3)
shutil.copy(os.environ["INPUT_FILE_PATH"], os.environ["TMP_OUTPUT_DIR"])
"""


def test_an_upload_is_waited_for_and_a_failure_explained(local: Local) -> None:
    bucket = local.function("terminal", SCRIPT)
    for name in ("good", "bad"):
        (local.folder / f"terminal-{name}").write_text(name)
    done = local.scar("put", "-b", f"{bucket}/in", "-p", "terminal-good", "-p", "terminal-bad", "--wait", "-j")
    runs = {run["object"].rpartition("-")[2]: run for run in done.json["runs"]}
    assert (done.code, runs["good"]["exit_code"], runs["bad"]["exit_code"]) == (3, 0, 3)
    assert "| cannot read this" in done.err
    assert local.keys(bucket, "out/") == ["out/terminal-good"]

    [why] = local.must("explain", "terminal", "--object", f"s3://{bucket}/in/terminal-bad", "-j").json
    assert [finding["rule"] for finding in why["findings"]] == ["script-failed"]
    assert "cannot read this" in why["findings"][0]["why"]
    local.client("s3").put_object(Bucket=bucket, Key="In/wrong", Body=b"x")
    [lost] = local.must("explain", "terminal", "--object", f"s3://{bucket}/In/wrong", "-j").json
    assert [finding["rule"] for finding in lost["findings"]] == ["filter-does-not-match"]

    again = local.scar("run", "-n", "terminal", "-ib", f"{bucket}/in", "-o", "json")
    assert (again.code, [run["exit_code"] for run in again.json["runs"]]) == (3, [3, 0])
    [listed] = local.must("ls", "-v", "--query", "[?name=='terminal'].[mode, last.result]", "-o", "json").json
    assert listed[0] == "lambda"
    assert listed[1] in {"ok", "failed"}  # whichever of the two ended last

    # Faults seeded by hand: nobody tells the function, nobody may, and Lambda starts none of its runs.
    s3, lambda_ = local.client("s3"), local.client("lambda")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    policy = json.loads(lambda_.get_policy(FunctionName="terminal")["Policy"])
    for statement in policy["Statement"]:
        lambda_.remove_permission(FunctionName="terminal", StatementId=statement["Sid"])
    lambda_.put_function_concurrency(FunctionName="terminal", ReservedConcurrentExecutions=0)
    told = local.must("explain", "terminal", "-j").json
    rules = {finding["rule"] for subject in told for finding in subject["findings"]}
    assert rules == {"throttled", "notification-missing", "permission-missing", "script-failed"}
