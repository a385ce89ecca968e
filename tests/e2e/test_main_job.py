"""A file lands in a bucket, the user's container processes it, the result appears."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Local, until

COPY = """#!/usr/bin/env python3
import os, shutil
shutil.copy(os.environ["INPUT_FILE_PATH"], os.environ["TMP_OUTPUT_DIR"])
"""
HOSTILE = [
    "in/a b+c ü 'q\" $HOME\nnewline.bin",
    "in/-rf",
    "in/%2F%20.txt",
    "in/день.txt",
    "in/deep/er/x.txt",
    "in/trailing  ",
]


def test_a_file_put_by_the_aws_cli_runs_the_function_once(local: Local) -> None:
    bucket = local.function("cli", COPY)
    (local.folder / "cli.bin").write_bytes(os.urandom(10_000))
    aws = [sys.executable, "-m", "awscli", "s3", "cp", "cli.bin", f"s3://{bucket}/in/cli.bin"]
    subprocess.run(aws, cwd=local.folder, env=local.aws_environ, check=True, capture_output=True, timeout=60)
    until("the output", lambda: local.keys(bucket, "out/") == ["out/cli.bin"])
    body = local.client("s3").get_object(Bucket=bucket, Key="out/cli.bin")["Body"].read()
    assert body == (local.folder / "cli.bin").read_bytes()
    time.sleep(0.5)
    assert local.runs("cli") == 1


def test_a_multipart_upload_of_64_mib_is_one_run_and_byte_exact(local: Local) -> None:
    bucket = local.function("multipart", COPY, ephemeral_storage=1024)
    data = os.urandom(1 << 20) * 64
    (local.folder / "big.bin").write_bytes(data)
    local.must("put", "-b", f"{bucket}/in", "-p", "big.bin")
    until("the output", lambda: local.keys(bucket, "out/"), 60)
    local.must("get", "-b", f"{bucket}/out/big.bin", "-p", "fetched")
    fetched = (local.folder / "fetched" / "out" / "big.bin").read_bytes()
    assert hashlib.sha256(fetched).digest() == hashlib.sha256(data).digest()
    assert local.runs("multipart") == 1


def test_hostile_keys_reach_the_script_intact_and_run_once_each(local: Local) -> None:
    script = """#!/usr/bin/env python3
import json, os, pathlib
said = {"key": os.environ["STORAGE_OBJECT_KEY"], "name": os.path.basename(os.environ["INPUT_FILE_PATH"]),
        "text": pathlib.Path(os.environ["INPUT_FILE_PATH"]).read_text()}
name = str(abs(hash(said["key"]))) + ".json"
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], name).write_text(json.dumps(said))
"""
    bucket = local.function("hostile", script)
    s3 = local.client("s3")
    for key in HOSTILE:
        s3.put_object(Bucket=bucket, Key=key, Body=f"text of {key}".encode())
    until("all outputs", lambda: len(local.keys(bucket, "out/")) == len(HOSTILE))
    said = [json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in local.keys(bucket, "out/")]
    assert sorted(item["key"] for item in said) == sorted(HOSTILE)
    for item in said:
        assert item["text"] == f"text of {item['key']}"
        assert item["name"] == item["key"].rpartition("/")[2]
    assert local.runs("hostile") == len(HOSTILE)


def test_a_script_that_exits_3_fails_the_run_and_publishes_nothing(local: Local) -> None:
    script = "#!/usr/bin/env python3\nimport os, sys\nopen(os.environ['TMP_OUTPUT_DIR'] + '/half', 'w').write('half')\n"
    bucket = local.function("three", script + "print('this went wrong', file=sys.stderr)\nsys.exit(3)\n")
    done = local.scar("run", "-n", "three")
    assert done.code == 3
    assert "this went wrong" in done.err
    document = local.scar("run", "-n", "three", "-o", "json")
    assert document.code == 3
    assert document.json["error"]["exit_origin"] == "job"
    (local.folder / "x.txt").write_text("x")
    local.must("put", "-b", f"{bucket}/in", "-p", "x.txt")
    until("AWS's three attempts", lambda: local.runs("three") >= 2 + 3, 40)
    assert "this went wrong" in local.log("three")
    assert local.keys(bucket, "out/") == []


def test_a_script_that_outlives_its_timeout_is_gone_with_its_children_and_publishes_nothing(local: Local) -> None:
    marker = f"scar-test-{os.getpid()}-{time.time_ns()}"
    script = f"""#!/usr/bin/env python3
import os, subprocess, sys, time
open(os.environ["TMP_OUTPUT_DIR"] + "/half", "w").write("half")
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)", "{marker}"],
                 start_new_session=True)
print("working", flush=True)
time.sleep(600)
"""
    bucket = local.function("late", script, timeout=4)
    started = time.monotonic()
    done = local.scar("run", "-n", "late")
    assert done.code == 124
    assert time.monotonic() - started < 20
    assert local.keys(bucket, "out/") == []
    until("the whole tree is gone", lambda: not processes_with(marker), 5)
    assert "working" in local.log("late")


def processes_with(marker: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if marker in line:
            found.append(line)
    return found


def test_two_functions_chained_turn_the_photograph_into_text(own_local: Local) -> None:
    done = own_local.must("local", "demo")
    for command in ("init -f", "put -b", "ls", "log -n", "get -b"):
        assert f"$ scar --local {command}" in done.out
    art = (own_local.folder / "scar-demo" / "text" / "cat.txt").read_text()
    assert len(art.splitlines()) == 25
    assert art in done.out
    assert "What to try next" in done.out
    again = own_local.must("local", "demo")
    assert "unchanged" in again.out + again.err


def test_a_hundred_files_put_at_once_give_a_hundred_outputs_none_twice(local: Local) -> None:
    bucket = local.function("hundred", COPY, memory=128)
    files = hundred_files(local)
    local.must("put", "-b", f"{bucket}/in", "-p", "hundred")
    until("100 outputs", lambda: len(local.keys(bucket, "out/")) == 100, 60)
    s3 = local.client("s3")
    assert all(s3.get_object(Bucket=bucket, Key=f"out/{name}")["Body"].read() == body for name, body in files.items())
    time.sleep(1)
    assert local.runs("hundred") == 100


def test_kill_dash_9_of_the_local_aws_in_the_middle_loses_no_output(own_local: Local) -> None:
    bucket = own_local.function("survivor", COPY, memory=128)
    files = hundred_files(own_local)
    own_local.must("put", "-b", f"{bucket}/in", "-p", "hundred")
    until("the first outputs", lambda: len(own_local.keys(bucket, "out/")) >= 5, 60)
    pid = own_local.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    until("its sandboxes die with it", lambda: not processes_with(str(own_local.state)), 10)
    own_local.must("local", "up")
    assert own_local.daemon_pid() != pid
    until("100 outputs", lambda: len(own_local.keys(bucket, "out/")) == 100, 90)
    s3 = own_local.client("s3")
    assert all(s3.get_object(Bucket=bucket, Key=f"out/{name}")["Body"].read() == body for name, body in files.items())


def hundred_files(local: Local) -> dict[str, bytes]:
    folder = local.folder / "hundred"
    folder.mkdir(exist_ok=True)
    files = {f"f{n:03}.bin": os.urandom(2000) for n in range(100)}
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return files


@pytest.mark.parametrize("change", ["nothing", "memory", "script", "input"])
def test_init_again_does_only_the_difference(local: Local, change: str) -> None:
    name = f"edit-{change}"
    local.function(name, COPY)
    definition = local.folder / f"{name}.yaml"
    document = json.loads(definition.read_text())
    body = document["functions"]["aws"][0]["lambda"]
    if change == "memory":
        body["memory"] = 640
    elif change == "script":
        (local.folder / body["init_script"]).write_text(COPY + "print('edited')\n")
    elif change == "input":
        body["input"][0]["path"] = f"bucket-{name}-other/in"
    definition.write_text(json.dumps(document))
    steps = {
        (step["verb"], step["kind"]) for step in local.must("plan", "-f", definition.name, "-o", "json").json["steps"]
    }
    expected = {
        "nothing": set(),
        "memory": {("update", "function")},
        "script": {("create", "image"), ("update", "function")},
    }
    if change in expected:
        assert steps >= expected[change]
        assert len(steps) <= len(expected[change]) + 1
    else:
        assert ("create", "notification") in steps
        assert ("delete", "notification") in steps
    local.must("init", "-f", definition.name)
    assert local.must("plan", "-f", definition.name, "-o", "json").json["steps"] == []
    assert local.scar("plan", "-f", definition.name, "--detailed-exitcode").code == 0


def test_rm_leaves_nothing_of_ours_and_keeps_the_users_files(own_local: Local) -> None:
    bucket = own_local.function("gone", COPY)
    (own_local.folder / "keep.txt").write_text("keep")
    own_local.must("put", "-b", f"{bucket}/in", "-p", "keep.txt")
    until("the output", lambda: own_local.keys(bucket, "out/"))
    own_local.must("rm", "-n", "gone")
    assert own_local.keys(bucket) == ["in/keep.txt", "out/keep.txt"]
    assert own_local.must("ls", "-o", "json").json == []
    assert own_local.client("lambda").list_functions()["Functions"] == []
    assert own_local.client("ecr").describe_repositories()["repositories"] == []
    assert own_local.client("iam").list_roles()["Roles"] == []
    assert own_local.client("logs").describe_log_groups()["logGroups"] == []
    assert [item["Name"] for item in own_local.client("s3").list_buckets()["Buckets"]] == [bucket]
    assert own_local.scar("rm", "-n", "gone").code in {0, 3}


def test_a_bad_definition_creates_nothing(own_local: Local) -> None:
    (own_local.folder / "bad.yaml").write_text(
        "functions:\n  aws:\n    - lambda:\n        name: bad name\n        memry: 9\n"
    )
    done = own_local.scar("init", "-f", "bad.yaml")
    assert done.code == 2
    assert "bad.yaml:4:15" in done.err
    assert "memory" in done.err
    own_local.must("local", "up")
    assert own_local.client("lambda").list_functions()["Functions"] == []
    assert own_local.client("s3").list_buckets()["Buckets"] == []
