"""`scar iam`: what the functions of a file may do, and what the person who runs SCAR needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scar.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context


def iam(context: Context, args: Namespace) -> int:
    """Print policies; nothing is asked of AWS."""
    raise UsageError("scar iam is not there yet")
