"""Rules about runs in Lambda, and about events that never started one."""

from __future__ import annotations

import re

from scar.aws.explaining_terms import Answer, Facts, failed_as, line_with


def checksum_mismatch(facts: Facts) -> Answer:
    if "checksum mismatch" not in facts.said:
        return None
    return (
        "an event that went through the state bucket is not what it was when it was put there",
        line_with(facts.said, "checksum mismatch"),
        ("Somebody or something changed the object: look at who may write the state bucket.", "Run it again: scar run"),
    )


def spill_missing(facts: Facts) -> Answer:
    found = re.search(r"reference (s3://\S+): .*(no such|not exist|not found|NoSuchKey|404|is gone)", facts.said)
    if found is None:
        return None
    return (
        "the event was too large to be sent along, and what stands for it in the state bucket is gone",
        f"{found[1]} is not there; such objects expire after two weeks",
        ("Start the run again: upload the object again, or repeat scar run",),
    )


def loop_stopped(facts: Facts) -> Answer:
    if "is a loop" not in facts.said and not failed_as(facts, "LoopRefused"):
        return None
    return (
        "the input is itself made of this function's output: the loop was stopped",
        line_with(facts.said, "loop") or "its lineage names this function",
        ("Let the output go to a folder that starts nothing of the way, then: scar init -f FILE", "scar graph -f FILE"),
    )


def access_denied(facts: Facts) -> Answer:
    """The agent names the permission that the role lacks; AWS's own words name action and resource."""
    if not facts.failed and not (facts.run and (facts.run.failures or facts.run.status)):
        return None
    text = facts.said + "\n" + "\n".join([*facts.lines, *(facts.run.last_lines if facts.run else ())])
    named = re.search(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)(?: on resource: (\S+))?", text)
    needs = re.search(r"access denied; the (?:function's )?role needs ([^;.\n]+)", text)
    if named is None and needs is None and "AccessDenied" not in text:
        return None
    if named is not None:
        lacks = named[1] + (f" on {named[2]}" if named[2] else "")
    else:
        lacks = needs[1] if needs is not None else "a permission"
    word = "not authorized" if named else "access denied" if needs else "AccessDenied"
    return (
        f"the function's role lacks {lacks}",
        line_with(text, word),
        (
            "scar iam -f FILE",
            "Name the bucket among the function's inputs or outputs, or add the permission to the role of `iam.role`.",
        ),
    )


def lambda_timed_out(facts: Facts) -> Answer:
    run = facts.run
    if run is None or not (run.status == "timeout" or failed_as(facts, "ScriptTimedOut")) or run.job_ids:
        return None
    limit = f" of {facts.function.timeout_s} s" if facts.function and facts.function.timeout_s else ""
    return (
        f"the run reached the function's time limit{limit}",
        "the script takes longer than `timeout` allows; Lambda's own limit is 900 s",
        (
            "Raise `timeout`, or let what takes longer go on in Batch: `execution_mode: lambda-batch`; then: scar init -f FILE",
            f"scar log -n {facts.name} -ri {run.request_id}",
        ),
    )


def lambda_out_of_memory(facts: Facts) -> Answer:
    """Source: lambda/latest/dg/troubleshooting-invocation: the sandbox is killed and REPORT shows all memory as used."""
    run = facts.run
    if run is None or run.status != "error":
        return None
    full = run.memory_mib > 0 and run.used_mib >= run.memory_mib
    if not full and "OutOfMemory" not in run.error_type and "signal: killed" not in facts.said:
        return None
    return (
        f"the run used more memory than the function has ({run.used_mib} of {run.memory_mib} MiB)",
        f"Lambda ended it: {run.error_type or 'its process was killed'}",
        ("Raise `memory`, then: scar init -f FILE", f"scar log -n {facts.name} -ri {run.request_id}"),
    )


def throttled(facts: Facts) -> Answer:
    function = facts.function
    if function is None or facts.run is not None or (function.concurrency != 0 and not function.throttled):
        return None
    if function.concurrency == 0:
        what, why = "Lambda starts no run of the function", "its reserved concurrency is 0: somebody switched it off"
    else:
        what, why = (
            f"Lambda throttled {function.throttled} runs lately",
            "more were asked for than may run at the same time",
        )
    return what, why, (f"aws lambda delete-function-concurrency --function-name {function.name}", "scar ls -v")


def function_not_ready(facts: Facts) -> Answer:
    function = facts.function
    if (
        function is None
        or facts.run is not None
        or (function.state in {"Active", "Inactive"} and function.update != "Failed")
    ):
        return None
    return (
        f"the function is not ready: {function.state if function.state != 'Active' else 'its last update failed'}",
        function.reason or "AWS gives no reason",
        ("scar init -f FILE",),
    )


def skipped(facts: Facts) -> Answer:
    if facts.run is None or not facts.run.skipped:
        return None
    return (
        "the run left a record out",
        "; ".join(facts.run.skipped),
        ("An object that is uploaded again is a new one.",),
    )


# -- an event that never came -----------------------------------------------------------------------------------


def bucket_absent(facts: Facts) -> Answer:
    if facts.arrival is None or facts.arrival.bucket_there:
        return None
    return (
        f"there is no bucket {facts.arrival.bucket}",
        "it was removed, or its name is another",
        ("scar init -f FILE",),
    )


def notification_missing(facts: Facts) -> Answer:
    arrival = facts.arrival
    if arrival is None or not arrival.bucket_there or arrival.entries:
        return None
    other = f"; it invokes {', '.join(arrival.others)}" if arrival.others else ""
    return (
        f"bucket {arrival.bucket} does not tell {arrival.function} of new objects",
        f"its notifications have no entry for the function{other}",
        ("scar plan -f FILE", "scar init -f FILE"),
    )


def filter_does_not_match(facts: Facts) -> Answer:
    arrival = facts.arrival
    if arrival is None or arrival.key is None or not arrival.entries:
        return None
    key = arrival.key
    if any(key.startswith(prefix) and key.endswith(suffix) for prefix, suffix in arrival.entries):
        return None
    said = " or ".join(
        f"begin with {prefix!r}" + (f" and end with {suffix!r}" if suffix else "") for prefix, suffix in arrival.entries
    )
    return (
        f"the key {key!r} does not fit what starts {arrival.function}",
        f"keys must {said}; capitals count",
        (f"scar put -b {arrival.bucket}/{arrival.entries[0][0].rstrip('/')} -p FILE",),
    )


def permission_missing(facts: Facts) -> Answer:
    arrival = facts.arrival
    if arrival is None or arrival.permitted or not arrival.bucket_there:
        return None
    return (
        f"S3 may not invoke {arrival.function} for bucket {arrival.bucket}",
        "the function's policy has no statement for the bucket: events are sent and refused, and nobody is told",
        ("scar plan -f FILE", "scar init -f FILE"),
    )


def object_absent(facts: Facts) -> Answer:
    arrival = facts.arrival
    if arrival is None or arrival.key is None or arrival.object_there or not arrival.bucket_there:
        return None
    return (
        f"there is no object s3://{arrival.bucket}/{arrival.key}",
        "it was not uploaded, was removed, or is written differently: capitals, spaces and slashes count",
        (f"scar ls -b {arrival.bucket}",),
    )


def folder_marker(facts: Facts) -> Answer:
    arrival = facts.arrival
    if arrival is None or arrival.key is None or not arrival.key.endswith("/"):
        return None
    return "the key ends in a slash: it is a folder and starts nothing", "consoles make such objects", ("scar put …",)
