"""A zip function, invoked through boto3, runs in Lambda's folders on this machine's Python."""

from __future__ import annotations

import base64
import hashlib
import json
import textwrap
from pathlib import Path

import pytest
from lambda_bench import Local, error_of, until
from packages import Member, archive, code, layer, link, member, package, refusal
from packages import make_zip as make

from scar.local.functions.managed import environment_of
from scar.local.functions.unzip import UNZIPPED_BYTES

INVALID = "InvalidParameterValueException"


def test_a_handler_in_python_answers_and_its_module_is_imported_once(local: Local) -> None:
    text = """
        count = 0
        def handler(event, context):
            global count
            count += 1
            return {"count": count, "event": event, "word": "ñ"}
    """
    made = make(local, "counts", code(text))
    zipped = code(text)
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(zipped).digest()).decode()
    assert (made["CodeSize"], made["PackageType"]) == (len(zipped), "Zip")
    assert local.invoke("counts", {"a": ["ß"]})["body"] == {"count": 1, "event": {"a": ["ß"]}, "word": "ñ"}
    assert local.invoke("counts", None)["body"] == {"count": 2, "event": None, "word": "ñ"}


def test_the_context_tells_what_lambdas_tells(local: Local) -> None:
    text = """
        import time
        def handler(event, context):
            first = context.get_remaining_time_in_millis()
            time.sleep(0.05)
            told = {name: getattr(context, name) for name in (
                "aws_request_id", "function_name", "function_version", "invoked_function_arn", "memory_limit_in_mb",
                "log_group_name", "log_stream_name")}
            return {**told, "first": first, "spent": first - context.get_remaining_time_in_millis(),
                "custom": context.client_context.custom, "identity": context.identity.cognito_identity_id}
    """
    make(local, "context", code(text), Timeout=7)
    custom = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    answer = local.invoke("context", {}, ClientContext=custom)
    told = answer["body"]
    assert told["aws_request_id"] == answer["ResponseMetadata"]["RequestId"]
    assert (told["function_name"], told["function_version"], told["memory_limit_in_mb"]) == (
        "context",
        "$LATEST",
        "256",
    )
    assert told["invoked_function_arn"].endswith(":function:context")
    assert told["log_group_name"] == "/aws/lambda/context"
    assert "[$LATEST]" in told["log_stream_name"]
    assert 5000 < told["first"] <= 7000
    assert 50 <= told["spent"] < 2000
    assert (told["custom"], told["identity"]) == ({"a": "b"}, None)


def test_the_function_sees_lambdas_folders_and_nothing_else_of_this_machine(
    local: Local, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CANARY", "must not be seen")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    text = """
        import os, ssl, subprocess, sys
        def handler(event, context):
            written = []
            for path in ("/x", "/var/task/x", "/var/runtime/x", "/opt/x", "/etc/x", "/usr/x", "/tmp/x"):
                try:
                    open(path, "w").close()
                    written.append(path)
                except OSError:
                    pass
            return {"env": dict(os.environ), "top": os.listdir("/"), "etc": os.listdir("/etc"), "cwd": os.getcwd(), "uid": os.getuid(),
                "written": written, "seen": [path for path in event if os.path.exists(path)], "path": sys.path[0],
                "user": subprocess.run("whoami; id -gn", shell=True, capture_output=True, text=True).stdout.split(),
                "certificates": ssl.create_default_context().cert_store_stats()["x509_ca"] > 0 or os.path.getsize("/etc/ssl/certs/ca-certificates.crt") > 1000}
    """
    make(local, "looks", code(text), Environment={"Variables": {"MINE": "yes", "PATH": "/mine:/usr/bin:/bin"}})
    answer = local.invoke("looks", [str(secret), "/root/.bashrc", "/home", "/etc/shadow", "/etc/machine-id", "/work"])
    told = answer["body"]
    assert set(told["top"]) <= {
        "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "mnt", "opt", "proc", "run", "sbin", "sys", "tmp", "usr", "var",
    }  # fmt: skip
    assert set(told["etc"]) <= {
        "alternatives", "group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd", "pki", "resolv.conf", "ssl",
    }  # fmt: skip
    assert (told["cwd"], told["path"], told["uid"], told["seen"]) == ("/var/task", "/var/task", 993, [])
    assert told["written"] == ["/tmp/x"]
    assert told["user"] == ["sbx_user1051", "sbx_user1051"]
    assert told["certificates"]
    seen = told["env"]
    expected = environment_of("python3.13", "app.handler")
    assert {name: seen[name] for name in expected if name != "PATH"} == {
        k: v for k, v in expected.items() if k != "PATH"
    }
    assert (seen["MINE"], seen["PATH"], "CANARY" in seen) == ("yes", "/mine:/usr/bin:/bin", False)
    assert seen["AWS_LAMBDA_RUNTIME_API"]
    assert seen["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"


def test_boto3_is_there_and_reaches_the_local_aws_with_the_functions_role(local: Local) -> None:
    text = """
        import boto3
        s3 = boto3.client("s3")
        def handler(event, context):
            s3.put_object(Bucket=event, Key="made", Body=b"by the function")
            return boto3.client("sts").get_caller_identity()["Arn"]
    """
    local.client("s3").create_bucket(Bucket="from-a-zip")
    make(local, "uses-boto", code(text), MemorySize=512)
    assert ":assumed-role/runs/uses-boto" in local.invoke("uses-boto", "from-a-zip")["body"]
    assert local.client("s3").get_object(Bucket="from-a-zip", Key="made")["Body"].read() == b"by the function"


def test_a_wrapper_is_started_with_the_interpreter_and_the_bootstrap(local: Local) -> None:
    wrapper = '#!/bin/sh\necho "wrapped $#: $1 $2"\nexport WRAPPED=yes\nexec "$@"\n'
    text = "import os\ndef handler(event, context): return os.environ['WRAPPED']\n"
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}
    make(local, "wrapped", package({"app.py": text, "wrapper": wrapper}), Environment={"Variables": variables})
    assert local.invoke("wrapped")["body"] == "yes"
    said = until(lambda: [line for line in local.logs.of("wrapped") if line.startswith("wrapped")])[0]
    assert said.startswith("wrapped 2: /var/lang/bin/python3")
    assert said.endswith(" /var/runtime/bootstrap.py")


def test_a_wrapper_that_brings_its_own_libraries_and_ignores_python_speaks_for_itself(local: Local) -> None:
    """As SCAR's own zip does; a library of its own in /var/task/lib must not get into this machine's shell."""
    agent = """#!/bin/sh
        exec /usr/bin/env -u LD_LIBRARY_PATH /var/lang/bin/python3 - 2>&1 <<'EOF'
        import http.client, os
        api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        while True:
            api.request("GET", "/2018-06-01/runtime/invocation/next")
            event = api.getresponse()
            event.read()
            path = f"/2018-06-01/runtime/invocation/{event.headers['Lambda-Runtime-Aws-Request-Id']}/response"
            api.request("POST", path, b'"from the agent"')
            api.getresponse().read()
        EOF
    """
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/agent"}
    files = {
        "agent": textwrap.dedent(agent).replace("#!/bin/sh\n    ", "#!/bin/sh\n"),
        "lib/libc.so.6": "not a library",
    }
    lines = [line.removeprefix("        ") for line in files["agent"].splitlines()]
    files["agent"] = "\n".join(lines) + "\n"
    make(local, "own-agent", package(files), Handler="scar.handler", Environment={"Variables": variables})
    assert local.invoke("own-agent")["body"] == "from the agent"


def test_a_wrapper_that_is_missing_fails_the_invocation(local: Local) -> None:
    make(local, "unwrapped", Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/none"}})
    assert error_of(local.invoke("unwrapped"))[0] == "Runtime.ExitError"
    until(lambda: any("/var/task/none: No such file" in line for line in local.logs.of("unwrapped")))


ERRORS = {
    "raises": ("def handler(e, c):\n    def inner(): raise ValueError('no: ñ')\n    inner()\n", "ValueError", "no: ñ"),
    "key": ("def handler(e, c): return {}['a']\n", "KeyError", "'a'"),
    "result": ("def handler(e, c): return {1, 2}\n", "Runtime.MarshalError", "Unable to marshal response: Object of type set"),
    "missing": ("other = 1\n", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
    "import": ("import nowhere\n", "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'nowhere'"),
    "syntax": ("def handler(:\n", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "),
    "top-level": ("1 / 0\n", "ZeroDivisionError", "division by zero"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_reaches_the_caller_as_lambdas_document_and_the_log_with_its_trace(local: Local, case: str) -> None:
    text, kind, message = ERRORS[case]
    make(local, f"fails-{case}", package({"app.py": text}))
    answer = local.invoke(f"fails-{case}")
    told_kind, told_message = error_of(answer)
    assert (told_kind, told_message[: len(message)]) == (kind, message)
    until(lambda: any(f"[ERROR] {kind}: {message}" in line for line in local.logs.of(f"fails-{case}")))
    trace = "".join(answer["body"]["stackTrace"])
    assert "bootstrap.py" not in trace
    if case == "raises":
        assert '  File "/var/task/app.py", line 2, in inner\n' in trace


def test_a_handler_without_a_module_and_one_in_a_folder(local: Local) -> None:
    make(local, "no-dot", Handler="app")
    assert error_of(local.invoke("no-dot"))[0] == "Runtime.MalformedHandlerName"
    make(local, "deep", package({"a/b/app.py": "def handler(e, c): return __name__\n"}), Handler="a/b/app.handler")
    assert local.invoke("deep")["body"] == "a.b.app"


def test_what_is_printed_and_logged_is_in_the_log_before_the_end(local: Local) -> None:
    text = """
        import logging
        logging.getLogger().setLevel("INFO")
        def handler(event, context):
            print("printed")
            logging.info("logged %s", 1)
            print("no end", end="")
    """
    make(local, "talks", code(text))
    answer = local.invoke("talks", LogType="Tail")
    request_id = answer["ResponseMetadata"]["RequestId"]
    lines = answer["log"].splitlines()
    assert lines[0].startswith("START")
    assert lines[1] == "printed"
    assert lines[2].startswith("[INFO]\t20")
    assert lines[2].endswith(f"Z\t{request_id}\tlogged 1")
    assert lines[3] == "no end"
    assert lines[4].startswith("END")


def test_a_handler_that_takes_too_long_or_leaves_is_told_as_lambda_tells_it(local: Local) -> None:
    make(local, "sleeps", code("import time\ndef handler(e, c): time.sleep(60)\n"), Timeout=1)
    assert error_of(local.invoke("sleeps"))[0] == "Sandbox.Timedout"
    make(local, "leaves", code("import os\ndef handler(e, c): os._exit(3)\n"))
    assert error_of(local.invoke("leaves"))[1].endswith("Runtime exited with error: exit status 3")


def test_a_function_may_not_trace_nor_make_namespaces(local: Local) -> None:
    text = """
        import ctypes
        def handler(event, context):
            libc = ctypes.CDLL(None, use_errno=True)
            return [(libc.ptrace(0, 0, 0, 0), ctypes.get_errno()), (libc.unshare(0x10000000), ctypes.get_errno())]
    """
    make(local, "traces", code(text))
    assert local.invoke("traces")["body"] == [[-1, 1], [-1, 1]]


# Code: where it comes from, versions, what is refused


def test_code_comes_from_a_bucket_in_the_version_asked_for(local: Local) -> None:
    s3 = local.client("s3")
    s3.create_bucket(Bucket="code")
    s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="code", Key="a/b.zip", Body=code("def handler(e, c): return 1\n"))["VersionId"]
    s3.put_object(Bucket="code", Key="a/b.zip", Body=code("def handler(e, c): return 2\n"))
    place = {"S3Bucket": "code", "S3Key": "a/b.zip"}
    make(local, "from-bucket", Code=place)
    assert local.invoke("from-bucket")["body"] == 2
    local.lambda_.update_function_code(FunctionName="from-bucket", S3ObjectVersion=first, **place)
    assert local.invoke("from-bucket")["body"] == 1
    failed = "Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: The specified {} does not exist"
    for changed, word in (
        ({"S3Key": "no"}, ("NoSuchKey", "key")),
        ({"S3Bucket": "nowhere"}, ("NoSuchBucket", "bucket")),
    ):
        kind, message = refusal(lambda changed=changed: make(local, "never", Code={**place, **changed}))  # type: ignore[misc]
        assert (kind, message.rstrip(".")) == (INVALID, failed.format(*word))


def test_new_code_serves_the_next_event_and_published_versions_keep_theirs(local: Local) -> None:
    client = local.lambda_
    make(local, "changes", code("def handler(e, c): return c.function_version + ' one'\n"), Publish=True)
    assert local.invoke("changes")["body"] == "$LATEST one"
    other = code("def handler(e, c): return c.function_version + ' two'\n")
    answer = client.update_function_code(FunctionName="changes", ZipFile=other, DryRun=True)
    assert local.invoke("changes")["body"] == "$LATEST one"
    answer = client.update_function_code(FunctionName="changes", ZipFile=other, Publish=True)
    assert answer["CodeSha256"] == base64.b64encode(hashlib.sha256(other).digest()).decode()
    assert answer["Version"] == "2"
    assert [local.invoke("changes", Qualifier=version)["body"] for version in ("1", "2", "$LATEST")] == [
        "1 one",
        "2 two",
        "$LATEST two",
    ]
    client.update_function_configuration(FunctionName="changes", Handler="app.other")
    assert error_of(local.invoke("changes"))[0] == "Runtime.HandlerNotFound"


BAD: dict[str, tuple[bytes | list[Member], str]] = {
    "no zip": (b"not a zip", "Could not unzip uploaded file. Please check your file, then try to upload again."),
    "empty": (b"PK\5\6" + bytes(18), "Uploaded file must be a non-empty zip"),
    "slip": ([member("../evil")], "Could not unzip uploaded file."),
    "large": ([member("zeros", bytes(UNZIPPED_BYTES + 1))], f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_package_that_lambda_refuses_is_refused_by_the_call_that_brings_it(local: Local, case: str) -> None:
    content, expected = BAD[case]
    zipped = content if isinstance(content, bytes) else archive(content)
    kind, message = refusal(lambda: make(local, "refused", zipped))
    assert (kind, message[: len(expected)]) == (INVALID, expected)
    assert refusal(lambda: local.lambda_.get_function(FunctionName="refused"))[0] == "ResourceNotFoundException"


def test_the_kind_of_package_cannot_be_changed(local: Local) -> None:
    make(local, "stays-zip")
    kind, message = refusal(lambda: local.lambda_.update_function_code(FunctionName="stays-zip", ImageUri=local.image))
    assert (kind, "ImageUri" in message) == (INVALID, True)
    assert local.invoke("stays-zip", 1)["body"] == 1


def test_other_runtimes_are_refused_in_clear_words(local: Local) -> None:
    make(local, "node", Runtime="nodejs22.x")
    kind, message = refusal(lambda: local.invoke("node"))
    assert kind == "InvalidRuntimeException"
    assert message.startswith("node has the runtime nodejs22.x; of zip functions the local AWS runs those in Python.")


# Layers


def test_layers_lie_below_opt_the_later_over_the_earlier(local: Local) -> None:
    first = layer(
        local,
        "first",
        member("python/tool.py", "name = 'first'"),
        member("both", "1"),
        link("python/same.py", "tool.py"),
    )
    second = layer(local, "second", member("both", "2"), member("bin/run", "#!/bin/sh\necho ran\n", mode=0o755))
    text = """
        import same, subprocess, tool
        def handler(event, context):
            return [tool.name, same.name, open("/opt/both").read(), subprocess.check_output(["run"]).decode()]
    """
    made = make(local, "layered", code(text), Layers=[first, second])
    assert [told["Arn"] for told in made["Layers"]] == [first, second]
    assert local.invoke("layered")["body"] == ["first", "first", "2", "ran\n"]
    local.lambda_.delete_layer_version(LayerName="second", VersionNumber=1)
    local.lambda_.update_function_configuration(FunctionName="layered", Layers=[first])
    assert error_of(local.invoke("layered"))[1] == "[Errno 2] No such file or directory: 'run'"


def test_a_function_keeps_a_layer_whose_version_was_deleted(local: Local) -> None:
    arn = layer(local, "gone", member("python/tool.py", "name = 'kept'"))
    make(local, "keeps", code("import tool\ndef handler(e, c): return tool.name\n"), Layers=[arn])
    local.lambda_.delete_layer_version(LayerName="gone", VersionNumber=1)
    local.functions.code.collect(grace_s=0)
    assert local.invoke("keeps")["body"] == "kept"


def test_layers_count_towards_what_code_may_unpack_to(local: Local) -> None:
    halves = [layer(local, name, member("zeros", bytes(UNZIPPED_BYTES // 2))) for name in ("half", "other-half")]
    kind, message = refusal(lambda: make(local, "heavy", Layers=halves))
    expected = f"Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_BYTES} bytes. The actual size is"
    assert (kind, message[: len(expected)]) == (INVALID, expected)
    kind, message = refusal(lambda: layer(local, "bad", member("/evil")))
    assert (kind, "Could not unzip" in message) == (INVALID, True)
