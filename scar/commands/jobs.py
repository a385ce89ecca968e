"""`scar jobs`: which Batch jobs there are, and everything about one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context


def jobs(context: Context, args: Namespace) -> int:
    raise NotImplementedError
