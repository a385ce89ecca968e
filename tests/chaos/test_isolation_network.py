"""A local run speaks to this machine and to nobody else, and the user's real credentials stay where they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

from tests.e2e.conftest import PYTHONPATH

KEY = "AKIA" + "REALLYREALREAL42"  # made up; whoever sends a signed request has its key's id in the head, in clear
CANARIES = (KEY, "canary-of-the-secret-key", "canary-of-the-session-token", "canary-of-the-profile")
# `env` is the function's own way to tell what it was given.
SCRIPT = '#!/usr/bin/env python3\nimport os, shutil\nprint(sorted(os.environ.items()))\nshutil.copy(os.environ["INPUT_FILE_PATH"], os.environ["TMP_OUTPUT_DIR"])\n'
ROUND = """
set -ex
scar() { "$PYTHON" -m scar --local "$@"; }
trap 'scar local down' EXIT
scar init -f real.yaml
echo one > one.txt
scar put -b bucket-real/in -p one.txt --wait
scar get -b bucket-real/out -p fetched
cmp one.txt fetched/out/one.txt
scar run -n real --object s3://bucket-real/in/one.txt
scar ls -o json > listed
scar log -n real > logged
scar rm -f real.yaml
"""
# Where this user may make one: a network without any route, in which a call to anybody else would fail at once.
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh") if os.geteuid() == 0 else ()
WATCHED = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-s", "4000", "-o")
# Of documentation (RFC 5737): the agent asks the kernel from which of its addresses it would go there, by a socket that sends nothing.
NOBODYS = "192.0.2.1"
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def test_a_local_run_reaches_nobody_else_and_never_uses_the_users_own_credentials(tmp_path: Path) -> None:
    """LO11, LO12"""
    home, work, state = (tmp_path / name for name in ("home", "work", "state"))
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = canary-of-the-profile\n"
    )
    work.mkdir()
    (work / "real.script").write_text(SCRIPT)
    body = {
        "name": "real",
        "memory": 256,
        "timeout": 30,
        "init_script": "real.script",
        "container": {"image": "scratch"},
        "input": [{"path": "bucket-real/in"}],
        "output": [{"path": "bucket-real/out"}],
    }
    (work / "real.yaml").write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    environment = {
        **{name: os.environ[name] for name in ("PATH", "SCAR_CACHE", "TMPDIR") if name in os.environ},
        "HOME": str(home),
        "PYTHON": sys.executable,
        "PYTHONPATH": PYTHONPATH,
        "SCAR_LOCAL_STATE": str(state),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": "canary-of-the-secret-key",
        "AWS_SESSION_TOKEN": "canary-of-the-session-token",
        "AWS_REGION": "eu-west-1",
    }
    seen = tmp_path / "seen"
    done = subprocess.run(
        [*ALONE, *WATCHED, str(seen), "sh", "-c", ROUND],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    calls = seen.read_text(errors="replace")
    addresses = {next(filter(None, found)) for found in ADDRESS.findall(calls)} - {NOBODYS}
    assert [one for one in addresses if not ip_address(one.removeprefix("::ffff:")).is_loopback] == []
    assert "AWS4-HMAC-SHA256" in calls, "what is sent was not seen"
    assert [canary for canary in CANARIES if canary in calls] == []
    written = [path for folder in (state, work) for path in folder.rglob("*") if path.is_file()]
    leaks = [(path, canary) for path in written for canary in CANARIES if canary.encode() in path.read_bytes()]
    assert leaks == []
    assert "AWS_ACCESS_KEY_ID" in (work / "logged").read_text()
    shutil.rmtree(state)
