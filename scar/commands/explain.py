"""`scar explain`: why a run, a job or a function is stuck or failed, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scar.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context


def explain(context: Context, args: Namespace) -> int:
    raise UsageError("not yet")
