"""SE5, SE6, SE16: what is secret is found nowhere that it does not belong. Strings that exist nowhere else are put in, and everything that comes out is searched."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.oracles import Canaries, forms, opened
from tests.e2e.conftest import Done, Local

# Of a storage provider, of the shell that `scar` is typed in, and of the function's own environment
PROVIDER, SHELL, FUNCTION = "canary-of-a-provider-5f1c", "canary-of-the-shell-9a7e", "canary-of-the-function-33d0"
ALL = (PROVIDER, SHELL, FUNCTION)
LOOK = """#!/usr/bin/env python3
import os, pathlib, sys
for name in sorted(os.environ):
    print("variable", name)
found = [b"\\0".join(f"{k}={v}".encode() for k, v in os.environ.items())]
for path in [*pathlib.Path("/proc").glob("[0-9]*/environ"), *pathlib.Path("/proc").glob("[0-9]*/cmdline")]:
    try:
        found.append(path.read_bytes())
    except OSError:
        pass
for top, _, names in os.walk("/tmp"):
    found += [pathlib.Path(top, name).read_bytes() for name in names if os.access(os.path.join(top, name), os.R_OK)]
text = b"".join(found)
print("sees the provider's:", "canary-of-a-prov".encode() + b"ider" in text)
print("sees the shell's:", "canary-of-the-sh".encode() + b"ell" in text)
print("sees its own:", "canary-of-the-func".encode() + b"tion" in text)
sys.exit(0 if "AWS_BATCH_JOB_ID" in os.environ else 3)
"""


def holds(content: bytes, secret: str) -> bool:
    return any(form in content for form in forms(secret))


class Deployed:
    """A function that has all three, deployed and run from a shell that has one of its own; `said` is all that commands said."""

    def __init__(self, base: Path) -> None:
        (base / "work").mkdir()
        self.local = Local(base / "work", base / "state")
        self.cache = base / "cache"
        self.said: dict[str, Done] = {}

    def scar(self, *words: str) -> Done:
        mine = {
            "LAB_SECRET": PROVIDER,
            "MY_TOKEN": SHELL,
            "AWS_SECRET_ACCESS_KEY": SHELL,
            "AWS_ACCESS_KEY_ID": "AKIAMINE",
        }
        environ = {**self.local.environ, **mine, "SCAR_CACHE": str(self.cache)}
        done = subprocess.run(
            [sys.executable, "-m", "scar", "--local", *words],
            capture_output=True, text=True, cwd=self.local.folder, env=environ, timeout=120, check=False,
        )  # fmt: skip
        self.said[" ".join(words)] = Done(done.returncode, done.stdout, done.stderr)
        return self.said[" ".join(words)]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    made = Deployed(tmp_path_factory.mktemp("secrets"))
    folder = made.local.folder
    (folder / "look.py").write_text(LOOK)
    body = {
        "name": "secretive", "memory": 512, "init_script": "look.py", "container": {"image": "scratch"},
        "environment": {"Variables": {"TOKEN": FUNCTION}},
        "input": [{"path": "bucket-secretive/in"}],
        "output": [{"storage_provider": "minio.lab", "path": "results/out"}],
    }  # fmt: skip
    jobs = {
        **body, "name": "jobly", "execution_mode": "batch", "environment": {"Variables": {}},
        "input": [{"path": "bucket-jobly/in"}],
    }  # fmt: skip
    batch = {"vcpus": 1, "memory": 256, "environment": {"Variables": {"TOKEN": FUNCTION}}}
    lab = {"access_key": "lab", "secret_key": "${env.LAB_SECRET}", "endpoint": "http://127.0.0.1:9"}
    document = {
        "functions": {"aws": [{"lambda": body}, {"lambda": jobs, "batch": batch}]},
        "storage_providers": {"minio": {"lab": lab}},
    }
    (folder / "f.yaml").write_text(json.dumps(document))
    try:
        for words in (
            ("plan", "-f", "f.yaml", "-o", "json"), ("init", "-f", "f.yaml", "--debug"), ("ls", "-o", "json"),
            ("run", "-n", "secretive", "--debug"), ("log", "-n", "secretive"), ("init", "-f", "f.yaml", "--region", "nowhere-at-all", "--debug"),
        ):  # fmt: skip
            made.scar(*words)
        (folder / "it.txt").write_text("it")
        made.scar("put", "-b", "bucket-jobly/in", "-p", "it.txt", "--wait")
        (job,) = made.scar("jobs", "-n", "jobly", "-o", "json").json
        for words in (
            ("log", "-n", "jobly", "-o", "json"), ("explain", "secretive", "--debug"), ("explain", job["id"], "-o", "json"), ("jobs", job["id"], "--debug"),
        ):  # fmt: skip
            made.scar(*words)
        yield made
    finally:
        made.local.scar("local", "down")


def test_the_script_sees_its_own_and_no_others(deployed: Deployed) -> None:
    """SE6: not the credentials of storage, which the agent has, and nothing of the shell that deployed it."""
    said = deployed.said["run -n secretive --debug"]
    assert said.code == 3, said.err
    text = said.out + said.err
    assert "sees the provider's: False" in text
    assert "sees the shell's: False" in text
    assert "sees its own: True" in text


def test_a_job_sees_its_own_and_no_others(deployed: Deployed) -> None:
    """SE6: the same in Batch, by a run that succeeds."""
    assert deployed.said["put -b bucket-jobly/in -p it.txt --wait"].code == 0
    text = deployed.said["log -n jobly -o json"].out
    assert "sees the provider's: False" in text
    assert "sees the shell's: False" in text
    assert "sees its own: True" in text


@pytest.mark.parametrize("secret", ALL)
def test_no_object_holds_it(deployed: Deployed, secret: str) -> None:
    """SE5: the state bucket, with its ledger and whatever was spilled, and the users' own."""
    assert Canaries({secret: secret}).in_buckets(deployed.local.client) == []


@pytest.mark.parametrize("secret", ALL)
def test_no_command_says_it(deployed: Deployed, secret: str) -> None:
    """SE5: tables, JSON, plans, logs, tracebacks."""
    assert deployed.said["init -f f.yaml --debug"].code == 0
    telling = [words for words, done in deployed.said.items() if holds((done.out + done.err).encode(), secret)]
    assert telling == []


# Parameter Store, Lambda and Batch, the last by account and region, keep what is theirs to keep.
KEEPERS = {
    PROVIDER: {"ssm.snapshot"},
    SHELL: set(),
    FUNCTION: {"awslambda.snapshot", "123456789012.us-east-1.snapshot"},
}


@pytest.mark.parametrize("secret", ALL)
def test_no_file_holds_it_but_its_keepers(deployed: Deployed, secret: str) -> None:
    """SE5: layers of the derived image, zips, logs, the daemon's own log, caches."""
    places = [
        path
        for top in (deployed.local.state, deployed.cache)
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    assert any(path.parent.name == "services" for path in places)
    found = {
        path.name.removesuffix(".previous")
        for path in places
        if any(holds(content, secret) for content in opened(path))
    }
    assert found <= KEEPERS[secret]


@pytest.mark.parametrize("secret", ALL)
def test_no_command_line_of_a_process_shows_it(deployed: Deployed, secret: str) -> None:
    """SE5: `ps` is everybody's."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:  # it has ended
            continue
    assert any(str(deployed.local.state).encode() in line for line in lines)
    assert not any(holds(line, secret) for line in lines)


def test_lambda_is_not_told_what_the_parameter_store_keeps(deployed: Deployed) -> None:
    """SE5: by its environment the function knows where it is, and no more."""
    configuration = deployed.local.client("lambda").get_function_configuration(FunctionName="secretive")
    text = json.dumps(configuration["Environment"])
    assert (PROVIDER in text, SHELL in text, FUNCTION in text) == (False, False, True)


def test_nobody_else_on_the_machine_reads_the_state_or_the_cache(deployed: Deployed) -> None:
    """SE16."""
    for folder in (deployed.local.state, deployed.cache):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder
