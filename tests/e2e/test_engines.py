"""The user's image runs the same on every rung of the ladder, and no rung leaves an orphan."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest

from tests.e2e.conftest import Local, until
from tests.e2e.test_main_job import processes_with

NEEDS = {"namespaces": None, "proot": "proot", "podman": "podman", "host": None}
REPORT = """#!/usr/bin/env python3
import json, os, pathlib
source = pathlib.Path(os.environ["INPUT_FILE_PATH"])
said = {"text": source.read_text(), "name": source.name, "key": os.environ["STORAGE_OBJECT_KEY"],
        "mine": os.environ["MINE"], "out": sorted(os.listdir(os.environ["TMP_OUTPUT_DIR"]))}
pathlib.Path(os.environ["TMP_OUTPUT_DIR"], "report.json").write_text(json.dumps(said, sort_keys=True))
"""


@pytest.fixture(params=list(NEEDS))
def engine_local(request: pytest.FixtureRequest, own_local: Local) -> Local:
    program = NEEDS[request.param]
    if program and (shutil.which(program) is None or (program == "podman" and os.getuid() != 0)):
        pytest.skip(f"{program} is not set up for this user; the gate installs it and runs as root")
    own_local.engine = request.param
    return own_local


def test_the_same_function_gives_the_same_result_and_the_same_exit_code(engine_local: Local) -> None:
    container = {"image": "scratch", "environment": {"Variables": {"MINE": 'a "b" $c'}}}
    bucket = engine_local.function("same", REPORT, container=container)
    assert engine_local.status["engine"]["name"] == engine_local.engine
    engine_local.client("s3").put_object(Bucket=bucket, Key="in/x y.txt", Body=b"hello")
    until("the output", lambda: engine_local.keys(bucket, "out/"))
    said = json.loads(engine_local.client("s3").get_object(Bucket=bucket, Key="out/report.json")["Body"].read())
    assert said == {"text": "hello", "name": "x y.txt", "key": "in/x y.txt", "mine": 'a "b" $c', "out": []}
    engine_local.function("seven", "#!/usr/bin/env python3\nimport sys; sys.exit(7)\n")
    assert engine_local.scar("run", "-n", "seven").code == 7


def test_killing_the_local_aws_leaves_no_process_of_a_run(engine_local: Local) -> None:
    marker = f"scar-orphan-{os.getpid()}-{time.time_ns()}"
    script = f"#!/usr/bin/env python3\nimport subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', '{marker}'], start_new_session=True)\ntime.sleep(300)\n"
    engine_local.function("orphan", script)
    engine_local.must("run", "-n", "orphan", "-a")
    until("the script's child", lambda: processes_with(marker))
    os.kill(engine_local.daemon_pid(), signal.SIGKILL)
    if engine_local.engine == "podman":  # a container outlives whoever started it; the next start sweeps it away
        engine_local.must("local", "up")
    until("nothing of it is left", lambda: not processes_with(marker), 15)
