"""How long does a command take that does nothing, and one that asks AWS one thing, as whole processes?

python benchmarks/startup.py [--quick]        results go to benchmarks/results/start-up.{json,md}
"""

from __future__ import annotations

import sys

import run
from figures import Figure, Result, compared
from surroundings import AWS, SCAR, Size, local_aws
from transfers import s5cmd

FLOOR = "python -I -c pass"


def measure(size: Size) -> Result:
    with local_aws(size) as bench:
        bench.client("s3").create_bucket(Bucket="start-up")
        python = sys.executable
        runs = {
            "scar --help": (*SCAR, "--help"),
            "scar --version": (*SCAR, "--version"),
            "scar completion bash": (*SCAR, "completion", "bash"),
            "scar ls": (*SCAR, "--local", "ls"),
            "scar ls -b": (*SCAR, "--local", "ls", "-b", "start-up"),
            "aws --version": (*AWS, "--version"),
            "aws s3 ls": (*AWS, "s3", "ls"),
            "aws lambda list-functions": (*AWS, "lambda", "list-functions"),
            "import boto3": (python, "-c", "import boto3"),
            "boto3 and a client": (python, "-c", "import boto3; boto3.client('s3')"),
            FLOOR: (python, "-I", "-c", "pass"),
        }
        if size.quick:
            runs = {name: argv for name, argv in runs.items() if name in ("scar --help", "scar ls", "aws --version", "aws s3 ls", FLOOR)}  # fmt: skip
        elif found := s5cmd():
            runs |= {
                "s5cmd version": (found, "version"),
                "s5cmd ls": (found, "--endpoint-url", bench.environ["AWS_ENDPOINT_URL"], "ls"),
            }
        costs = bench.in_turns(runs, size.of(11, 1))

    def lines(ours: str, peers: dict[str, str]) -> list[Figure]:
        if ours not in costs:
            return []
        there = {peer: goal for peer, goal in peers.items() if peer in costs}
        found = [
            compared(ours if n == 0 else "  time", costs, peer, goal, ours=ours)
            for n, (peer, goal) in enumerate(there.items())
        ]
        found += [compared("  memory", costs, peer, ours=ours, of="peak_mib") for peer in list(there)[:1]]
        return [*found, compared("  processor time", costs, next(iter(there)), ours=ours, of="cpu_s")]

    nothing = {"aws --version": "≤ 0.25", "import boto3": "", "s5cmd version": "", FLOOR: ""}
    asking = {"aws s3 ls": "≤ 0.6", "aws lambda list-functions": "", "boto3 and a client": "", "s5cmd ls": ""}
    return Result(
        [
            *lines("scar --help", nothing),
            *lines("scar --version", {"aws --version": "≤ 0.25"}),
            *lines("scar completion bash", {"aws --version": "≤ 0.25"}),
            *lines("scar ls", asking),
            *lines("scar ls -b", {"aws s3 ls": "≤ 0.6"}),
        ]
    )


if __name__ == "__main__":
    run.alone("start-up")
