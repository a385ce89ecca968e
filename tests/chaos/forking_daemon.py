"""A process that has imported what a daemon needs and forks one whenever it is told to: a start costs what it restores, not what it imports.

Each line of its input is a JSON list: the daemon's arguments, and the limit of open files or null. It answers with the daemon's pid, or for
a number, with how that daemon ended.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys

from scar.local.daemon import main
from scar.local.parts import lambda_and_registry

for name in ("bucket_policy", "front", "hooks", "http.door", "iam.door", "instance_profiles", "logs", "managed_policies", "paths",
             "s3_store", "server", "batch.door", "batch.jobs", "functions.engine"):  # fmt: skip
    importlib.import_module(f"scar.local.{name}")


def daemon(arguments: list[str], open_files: int | None, output: str) -> None:
    os.setsid()
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(written, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    code = 70
    try:
        code = main(arguments, lambda_and_registry)
    finally:
        os._exit(code)


for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, int):
        answer = os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1])
    else:
        answer = os.fork()
        if answer == 0:
            daemon(asked[0], asked[1], asked[2])
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()
