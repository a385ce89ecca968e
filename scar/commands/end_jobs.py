"""`scar cancel`, `scar terminate`: end jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context


def cancel(context: Context, args: Namespace) -> int:
    raise NotImplementedError


def terminate(context: Context, args: Namespace) -> int:
    raise NotImplementedError
