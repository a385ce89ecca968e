"""`scar wait`: wait for jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context


def wait(context: Context, args: Namespace) -> int:
    raise NotImplementedError
