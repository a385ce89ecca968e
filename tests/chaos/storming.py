"""A local AWS of its own, and two proxies before it: one that commands go through, one that functions and jobs go through.

A storm is a seeded share of all requests that go wrong. `Storm.until_done` is what a person does in one: the same command again.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import boto3

from tests.chaos.oracles import Leftovers, dump
from tests.e2e.batch.world import PROBE, World, function
from tests.e2e.conftest import Done, Local
from tests.support.fault_proxy import (
    Cut,
    Drop,
    Fault,
    FaultProxy,
    Flip,
    Lose,
    Refuse,
    Request,
    Stale,
    Throttle,
)

UNSURE: tuple[Fault, ...] = (Lose(), Cut(0), Cut(9), Cut(-1))  # the call was applied, and nobody is told
REFUSED: tuple[Fault, ...] = (
    Throttle(),
    Refuse(500, "InternalError"),
    Refuse(502, "BadGateway"),
    Refuse(503, "ServiceUnavailable"),
    Drop(),
)
BROKEN = REFUSED + UNSURE
TRIES = 25
WITHIN_S = 240
MODES = {"plain": None, "both": "lambda-batch", "heavy": "batch"}


@dataclass
class Calm(Local):
    """A local AWS with a folder for temporary files of its own; its address is asked for once."""

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "TMPDIR": str(self.temporary)}

    @property
    def temporary(self) -> Path:
        return self.folder.parent / "tmp"

    @cached_property
    def address(self) -> str:
        return Local.url.fget(self)  # type: ignore[attr-defined,no-any-return]

    @property
    def url(self) -> str:
        return self.address

    def now(self) -> Any:
        """What runs and waits in it, as `scar local status` would tell."""
        with urllib.request.urlopen(f"{self.url}/_scar/status", timeout=60) as answer:
            return json.load(answer)

    def quiet(self) -> bool:
        """No invocation and no job runs or waits: what comes twice has come twice."""
        status = self.now()
        waiting = [function["busy"] + function["queued"] for function in status["functions"]["functions"].values()]
        running = status["batch"]["jobs"].keys() - {"SUCCEEDED", "FAILED"}
        return not (sum(waiting) or running or status["functions"]["waiting_events"])

    def given_up(self) -> list[Any]:
        """Events that failed for good, and what their last attempt said."""
        return list(self.now()["functions"]["failed_events"])

    @property
    def leftovers(self) -> Leftovers:
        return Leftovers(self.state, self.temporary)

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name="us-east-1",
                aws_access_key_id="local",
                aws_secret_access_key="local",
            )
        return self._clients[service]


@dataclass
class Storm:
    """`commands` stands before the local AWS for commands, `agents` for what runs in sandboxes."""

    local: Calm
    commands: FaultProxy
    agents: FaultProxy
    failures: list[Done] = field(default_factory=list)

    @property
    def story(self) -> str:
        return f"commands: {self.commands.told()}\nagents: {self.agents.told()}"

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        for proxy in (self.commands, self.agents):
            proxy.rules.clear()

    @property
    def through(self) -> dict[str, Any]:
        """`environment` of a function: its agent, and its script, reach S3 and Batch through `agents`."""
        return {"Variables": {f"AWS_ENDPOINT_URL_{name}": self.agents.endpoint for name in ("S3", "BATCH")}}

    def environ(self) -> dict[str, str]:
        return {**self.local.aws_environ, "AWS_ENDPOINT_URL": self.commands.endpoint}

    def start(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "scar", *words]
        return subprocess.Popen(
            argv,
            cwd=self.local.folder,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def scar(self, *words: str, timeout_s: float = 240) -> Done:
        """The command, by the proxy. One that fails has to say so as every command does."""
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout_s)
        done = Done(process.returncode, out, err)
        self.check(words, done)
        return done

    def check(self, words: tuple[str, ...], done: Done) -> None:
        """Exit code and message fit each other; nothing is told as a defect of ours."""
        told = f"scar {' '.join(words)} → {done.code}\n{done.out}\n{done.err}\n{self.story}"
        assert "Traceback" not in done.out + done.err, told
        assert "defect of SCAR" not in done.err, told
        last_words = re.findall(r"^scar: .+", done.err, re.MULTILINE)
        assert len(last_words) == (1 if done.code else 0), told
        if done.code:
            assert done.code in {1, 3, 4, 5, 6, 124}, told
            self.failures.append(done)

    def until_done(self, *words: str, tries: int = TRIES) -> Done:
        """The same command until it says that it is done."""
        for _ in range(tries):
            done = self.scar(*words)
            if done.code == 0:
                return done
        raise AssertionError(f"scar {' '.join(words)} failed {tries} times: {done.err}\n{self.story}")

    def must(self, *words: str) -> Done:
        done = self.scar(*words)
        assert done.code == 0, f"scar {' '.join(words)} → {done.code}\n{done.err}\n{self.story}"
        return done

    def write(self, file: str, *functions: Mapping[str, Any]) -> None:
        (self.local.folder / file).write_text(json.dumps({"functions": {"aws": list(functions)}}))  # JSON is YAML

    def writes_of(self, *words: str) -> list[str]:
        """Which calls of a command changed the account."""
        before = len(self.commands.requests)
        self.must(*words)
        return [
            f"{call.service}:{call.operation} {call.path}"
            for call in self.commands.requests[before:]
            if not call.operation.startswith(READS)
        ]


READS = ("Get", "List", "Describe", "Head", "BatchGet", "BatchCheck")


def of_content(request: Request) -> bool:
    """An object's bytes, which a checksum goes with; nobody can tell a flipped bit of a document, and TLS lets none through."""
    return (request.service, request.operation) == ("s3", "GetObject") and "/scar-state-" not in request.path


def of_lists(request: Request) -> bool:
    """Reads that AWS says may be behind: everything but S3."""
    return request.service not in {"s3", "sts", "ecr"} and request.operation.startswith(("List", "Describe"))


@dataclass
class TwoInThree:
    """Every third request of a name is spared: whoever asks three times is answered once, and no storm is the end of anybody."""

    counted: Counter[str] = field(default_factory=Counter)

    def __call__(self, request: Request) -> bool:
        if not request.service:  # a stray of another test that had this port before
            return False
        self.counted[request.name] += 1
        return self.counted[request.name] % 3 != 0


def storm_on(
    proxy: FaultProxy,
    drawn: Random,
    rate: float,
    *,
    stale: bool = False,
    spare: Callable[[Request], bool] = lambda one: one.service != "",
) -> None:
    """About `rate` of the requests that `spare` does not spare break; and some of the objects' bytes have a bit that is another."""
    if stale:
        proxy.chance(drawn, rate, [Stale()], where=of_lists)
    proxy.chance(drawn, rate, [*BROKEN, Flip(0), Flip(-1)], where=lambda one: of_content(one) and spare(one))
    proxy.chance(drawn, rate, BROKEN, where=lambda one: not of_content(one) and spare(one))


@contextmanager
def storm_in(base: Path) -> Iterator[Storm]:
    """Everything of it below `base`. A local AWS that is up, and nothing broken yet."""
    for name in ("work", "tmp"):
        (base / name).mkdir(parents=True)
    local = Calm(base / "work", base / "state")
    Local.must(local, "local", "up")
    try:
        with FaultProxy(local.url) as commands, FaultProxy(local.url) as agents:
            yield Storm(local, commands, agents)
    finally:
        Local.scar(local, "local", "down")


def wait_for(what: str, check: Callable[[], object], story: Callable[[], str], within_s: float) -> None:
    """Wait for a fact; the failure tells what was broken."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"waited {within_s} s for: {what}\n{story()}"
        time.sleep(0.2)


@dataclass
class Deployed:
    """All modes and a chain of two functions, made while nothing was broken. `empty` and `whole` are the account before and after."""

    storm: Storm
    empty: dict[str, Any]
    whole: dict[str, Any]

    @property
    def world(self) -> World:
        return World(self.storm.local, self.storm.agents)

    def until_quiet(self) -> None:
        """All that was to happen has happened, and what comes twice has come twice."""
        wait_for("the end of all that runs or waits", self.storm.local.quiet, lambda: self.storm.story, WITHIN_S)

    def dump(self) -> dict[str, Any]:
        """Without what users' buckets hold: that is not the commands' business."""
        return without_files(dump(self.storm.local.client))


def without_files(held: dict[str, Any]) -> dict[str, Any]:
    for name, bucket in held["buckets"].items():
        if name.startswith("bucket-"):
            bucket["objects"], bucket["versions"] = {}, []
    return held


def definitions(storm: Storm) -> list[dict[str, Any]]:
    slow = {"timeout": 40, "environment": storm.through, "container": {"image": "scratch", "timeout_threshold": 35}}
    jobs = {"environment": storm.through}
    chain = {"first": ("in", "bucket-second/in"), "second": ("in", "bucket-second/out")}
    return [
        *(
            function(name, mode, **slow, **({"batch": jobs} if mode else {}))
            for name, mode in MODES.items()
        ),
        *(
            function(name, **slow, output=[{"path": target}], input=[{"path": f"bucket-{name}/{source}"}])
            for name, (source, target) in chain.items()
        ),
    ]  # fmt: skip


@contextmanager
def deployed_in(base: Path) -> Iterator[Deployed]:
    with storm_in(base) as storm:
        (storm.local.folder / "probe.py").write_text(PROBE)
        storm.write("all.yaml", *definitions(storm))
        s3 = storm.local.client("s3")
        for name in (*MODES, "first", "second"):
            s3.create_bucket(Bucket=f"bucket-{name}")
            s3.put_bucket_versioning(Bucket=f"bucket-{name}", VersioningConfiguration={"Status": "Enabled"})
        empty = without_files(dump(storm.local.client))
        storm.must("init", "-f", "all.yaml")
        yield Deployed(storm, empty, without_files(dump(storm.local.client)))
        left = storm.local.leftovers
    wait_for("no process of a local AWS that is down", lambda: not left.processes(), lambda: str(left.processes()), 60)
    assert left.mounts() == left.files() == []
