"""What did a process cost, and how do several compare that take turns?"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A process of its own between us and what is measured: the peak memory of a child begins at that of whoever forked it.
_MEASURE = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
output = process.stdout.read().decode(errors="replace")
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - started
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / 1024, output,
                  usage.ru_utime + usage.ru_stime]))
"""


@dataclass(frozen=True)
class Cost:
    """`peak_mib` is of the largest process, `cpu_s` of it and the children it has waited for."""

    seconds: float
    peak_mib: float
    output: str
    cpu_s: float


def cost(*argv: str, environ: Mapping[str, str] | None = None, cwd: Path | None = None, bound_s: float = 600) -> Cost:
    """Wall-clock seconds, processor time and peak memory of one process, which must succeed."""
    measure = [sys.executable, "-I", "-S", "-c", _MEASURE, *argv]
    done = subprocess.run(measure, env=environ, cwd=cwd, capture_output=True, text=True, timeout=bound_s, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    code, seconds, peak_mib, output, cpu_s = json.loads(done.stdout)
    assert code == 0, f"{argv} ended with {code}: {output}"
    return Cost(seconds, peak_mib, output, cpu_s)


def together(costs: Sequence[Cost]) -> Cost:
    """What several processes one after another cost."""
    return Cost(
        sum(c.seconds for c in costs), max(c.peak_mib for c in costs), costs[-1].output, sum(c.cpu_s for c in costs)
    )


def median(costs: Sequence[Cost]) -> Cost:
    """Each number's own median; the output of the one in the middle."""
    chosen = sorted(costs, key=lambda c: c.seconds)[len(costs) // 2]
    seconds, peak_mib, cpu_s = (
        statistics.median(numbers) for numbers in zip(*((c.seconds, c.peak_mib, c.cpu_s) for c in costs), strict=True)
    )
    return Cost(seconds, peak_mib, chosen.output, cpu_s)


def in_turns(runs: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Each of `runs` once a round, so that the machine's moods meet all; the order turns around from round to round."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in reversed(runs) if number % 2 else runs:
            costs[name].append(runs[name]())
    return costs
