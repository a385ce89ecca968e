"""How long-running steps tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[int, int, str], None]
"""(bytes done, bytes in all, of what). May be called from several threads, one at a time.

What comes after a comma is detail that changes on the way (`push, 3 of 7 layers`): the part is named by what is before it.
"""


def ignore(done_bytes: int, total_bytes: int, what: str) -> None:
    """A Tell for those who need no progress."""
