"""How a plan is told while it is applied: a head line for each function, a line for each step, and the command that goes on."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scar.arguments.defining import typed
from scar.report import plural

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.aws.clients import Aws
    from scar.cli import Context
    from scar.errors import ScarError
    from scar.plan.diff import Plan, Step
    from scar.report import Report


def be_patient(aws: Aws, args: Namespace) -> None:
    """`--wait-timeout`: how long a wait may take that AWS sets no limit to. Without it, as long as `Aws` says itself."""
    if args.patience is not None:
        aws.patience_s = args.patience


def carry_out(report: Report, aws: Aws, plan: Plan, *, again: str) -> None:
    """Apply a plan, telling each step. Whoever interrupts it hears what was under way, and how to finish."""
    from scar.plan.apply import apply

    teller = Teller(report)
    try:
        apply(aws, plan, teller, again=again)
    except KeyboardInterrupt:
        report.complain(f"{teller.so_far(plan)}\n  {again}")
        raise


class Teller:
    """Says each step of a plan when it is done, with its seconds when there were any to speak of."""

    SLOW_S = 1.0

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._running: list[Step] = []
        self._done = 0

    def so_far(self, plan: Plan) -> str:
        with self._lock:
            under_way = ", ".join(f"{step.verb} {step.id}" for step in self._running)
            told = f"{self._done} of {plural(len(plan.steps), 'step')} done"
            return f"{told}; AWS may go on with: {under_way}" if under_way else told

    def started(self, step: Step) -> None:
        with self._lock:
            self._running.append(step)
            self._report.draw(f"  {step.verb} {step.id} …")

    def done(self, step: Step, seconds: float) -> None:
        self._done += 1
        self._finish(step, f"({seconds:.1f} s)" if seconds >= self.SLOW_S else "")

    def failed(self, step: Step, error: ScarError) -> None:
        self._finish(step, "FAILED")

    def _finish(self, step: Step, after: str) -> None:
        from scar.commands.showing import tell

        with self._lock:
            self._running.remove(step)
            if self._report.json:
                self._report.say("  ".join(filter(None, (f"  {step}", after))))
            else:
                tell(self._report, step, after)
            if self._running:
                self._report.draw(f"  {self._running[0].verb} {self._running[0].id} …")


def where(report: Report, aws: Aws) -> None:
    """Before anything else: whose account this is about."""
    text = f"account {aws.account}, region {aws.region}"
    if report.json:
        report.say(text)
    else:
        report.line(text)


def head(report: Report, name: str, plan: Plan) -> None:
    """One line for each function: what is about to happen, or that nothing is."""
    text = f"{name}: {_summary(plan)}"
    if report.json:
        report.say(text)
    else:
        report.line(text)


def _summary(plan: Plan) -> str:
    if not plan:
        return f"unchanged ({plural(len(plan.unchanged), 'thing')})" if plan.unchanged else "unchanged"
    count = {verb: sum(step.verb == verb for step in plan.steps) for verb in ("create", "update", "delete")}
    words: Mapping[str, str] = {"create": "to create", "update": "to change", "delete": "to delete"}
    return ", ".join(f"{count[verb]} {word}" for verb, word in words.items() if count[verb])


def command(context: Context, verb: str, args: Namespace) -> str:
    """The command as it was typed, for the sentence that tells how to finish."""
    words = ["scar", *(["--local"] if context.asked_local else []), verb]
    if args.conf_file:
        words += ["-f", str(args.conf_file)]
    if args.name:
        words += ["-n", args.name]
    words += typed(args)
    return shlex.join(words)
