"""How many calls and how long do `init`, a second `init`, `ls` and `rm` take, as the account grows, near and far?

    python benchmarks/control.py [--quick]        results go to benchmarks/results/control-plane.{json,md}

The account is the local AWS's, which pages as AWS does. Calls are counted at a proxy; far is another proxy that lets all bytes wait 30 ms a round trip.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import run
from deployed import COPY_IN_PYTHON
from figures import Figure, Growth, Result, compared
from measuring import Cost, in_turns
from surroundings import AWS, SCAR, Bench, Size, distant, local_aws

RTT_MS = 30
READS = ("Get", "List", "Describe", "Head", "Batch", "Lookup", "Simulate")
GOALS = {"lambda": {"init": "≤ 12 calls", "rm": "≤ 9 calls"}, "batch": {"init": "≤ 20 calls", "rm": "≤ 16 calls"}}
# What goals do not count: who one is, roles, the registry, and the state bucket.
APART = ("sts ", "iam ", "ecr ", "state ")


def measure(size: Size) -> Result:
    figures: list[Figure] = []
    growths: list[Growth] = []
    told: dict[str, Counter[str]] = {}
    with local_aws(size) as bench, distant(bench.environ["AWS_ENDPOINT_URL"], RTT_MS) as far:
        figures += list(lists(bench, far, growths))
        for mode in ("lambda", "batch")[: size.of(2, 1)]:
            figures += life(bench, far, mode, told)
    return Result(figures, growths, document={"calls": told})


def lists(bench: Bench, far: str, growths: list[Growth]) -> Iterator[Figure]:
    """`ls` and the AWS CLI's bare list, of more and more functions."""
    ours, theirs = (*SCAR, "ls"), (*AWS, "lambda", "list-functions", "--output", "json")
    peer = "aws lambda list-functions"
    seconds: dict[str, dict[float, float]] = {}
    there = 0
    for number in bench.size.sizes(1, 10, 100, 500, quick=(1, 3)):
        seed(bench, range(there, number))
        there = number
        calls = sum(counted(bench, *ours).values())
        for place, url, rounds in (("", bench.environ["AWS_ENDPOINT_URL"], 5), (f", {RTT_MS} ms away", far, 3)):
            costs = turns(bench, {"scar": ours, peer: theirs}, url, bench.size.of(rounds, 1))
            goal = "≤ 1.2" if not place else "≤ 1 s"
            found = compared(f"ls, {number} functions{place}", costs, peer, goal if number >= 500 else "")
            yield found
            for name, value in ((f"SCAR{place}", found.ours), (f"awscli{place}", found.theirs)):
                seconds.setdefault(name, {})[number] = float(value or 0)
        most = math.ceil(number / 50) + math.ceil(number / 100) + 2
        yield Figure("  calls", calls, "calls", goal=f"≤ {most}")
    ends = (min(points := list(seconds["awscli"])), max(points))
    growths.append(
        Growth("control-ls", "ls", "functions", "seconds", seconds, {"30 ms away": dict.fromkeys(ends, 1.0)})
    )


def life(bench: Bench, far: str, mode: str, told: dict[str, Counter[str]]) -> Iterator[Figure]:
    """A function of its own is made, made again, and removed, in the account that is full by now."""
    name = f"life-{mode}"
    (bench.folder / "life.script").write_text(COPY_IN_PYTHON)
    body = {
        "name": name,
        "memory": 512,
        "timeout": 60,
        "execution_mode": mode,
        "init_script": "life.script",
        "container": {"image": "scratch"},
        "input": [{"path": f"{name}-bucket/in"}],
        "output": [{"path": f"{name}-bucket/out"}],
    }
    (bench.folder / "life.yaml").write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    steps = {
        "init": (*SCAR, "init", "-f", "life.yaml"),
        "second init": (*SCAR, "init", "-f", "life.yaml"),
        "rm": (*SCAR, "rm", "-n", name),
    }
    near = bench.environ["AWS_ENDPOINT_URL"]
    for argv in (
        () if bench.size.quick else steps.values()
    ):  # the bucket is there from now on, and the agent's layer in its registry
        bench.cost(*argv)
    calls = {step: counted(bench, *argv) for step, argv in steps.items()}
    told |= {f"{step} ({mode})": found for step, found in calls.items()}
    costs: dict[str, dict[str, list[Cost]]] = {url: {step: [] for step in steps} for url in (near, far)}
    rounds = bench.size.of(3 if mode == "lambda" else 2, 1)
    for url, times in ((near, rounds), (far, 1)):
        for _ in range(times):
            for step, argv in steps.items():
                costs[url][step].append(bench.cost(*argv, environ={"AWS_ENDPOINT_URL": url}))
    for step in steps:
        goals: Mapping[str, str] = GOALS[mode]
        mine = sorted(one.seconds for one in costs[near][step])
        away = sorted(one.seconds for one in costs[far][step])
        yield Figure(f"{step} ({mode})", mine[len(mine) // 2], "s")
        yield Figure(f"  {RTT_MS} ms away", away[len(away) // 2], "s")
        yield Figure("  calls", sum(calls[step].values()), "calls")
        apart = sum(number for call, number in calls[step].items() if not call.startswith(APART))
        yield Figure("  calls without role, state and registry", apart, "calls", goal=goals.get(step, ""))
        writes = sum(number for call, number in calls[step].items() if not is_read(call))
        yield Figure("  writes among them", writes, "calls", goal="0 calls" if step == "second init" else "")


def turns(bench: Bench, runs: Mapping[str, Sequence[str]], url: str, rounds: int) -> dict[str, list[Cost]]:
    return in_turns(
        {name: lambda argv=argv: bench.cost(*argv, environ={"AWS_ENDPOINT_URL": url}) for name, argv in runs.items()},
        rounds,
    )


def counted(bench: Bench, *argv: str) -> Counter[str]:
    """The calls of one command, by operation."""
    from tests.support.fault_proxy import FaultProxy

    with FaultProxy(bench.environ["AWS_ENDPOINT_URL"]) as proxy:
        bench.cost(*argv, environ={"AWS_ENDPOINT_URL": proxy.endpoint})
        return Counter(f"{_whose(request)} {request.operation}" for request in proxy.requests)


def _whose(request: Any) -> str:
    """The service; the state bucket, which all functions share, is one of its own."""
    return "state" if request.service == "s3" and request.path.startswith("/scar-") else str(request.service)


def is_read(call: str) -> bool:
    return call.partition(" ")[2].startswith(READS)


def seed(bench: Bench, numbers: range) -> None:
    """Functions as `init` leaves them as far as `ls` can see: tagged, and nothing around them."""
    from scar.aws import tags

    client = bench.client("lambda")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("bootstrap", "")
    role = _role(bench)

    def make(number: int) -> Any:
        name = f"seeded-{number:04d}"
        shown = {tags.MODE: "lambda", tags.IMAGE: "example:1", tags.INPUT: "photos/in", tags.OUTPUT: "photos/out"}
        return client.create_function(
            FunctionName=name,
            Role=role,
            Runtime="provided.al2023",
            Handler="bootstrap",
            Code={"ZipFile": packed.getvalue()},
            Tags=tags.written(tags.of_function(name, {}, shown)),
        )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make, numbers))


def _role(bench: Bench) -> str:
    iam = bench.client("iam")
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}  # fmt: skip
    try:
        made = iam.create_role(RoleName="seeded", AssumeRolePolicyDocument=json.dumps(trust))
    except iam.exceptions.EntityAlreadyExistsException:
        made = iam.get_role(RoleName="seeded")
    return str(made["Role"]["Arn"])


if __name__ == "__main__":
    run.alone("control-plane")
