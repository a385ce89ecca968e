"""Times as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from scar.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def since(text: str, now_s: float, flag: str = "--since") -> int:
    """`10m`, `2h`, `3d` before now, or an ISO 8601 time (UTC unless it says otherwise), as milliseconds since 1970."""
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        return int((now_s - int(match[1]) * _UNITS[match[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text!r} is no time", fix="Write 10m, 2h, 3d or 2026-01-31T12:00.") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def iso(time_ms: int) -> str:
    """`2026-01-31T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(time_ms: int) -> str:
    """The same in the local time zone, with its offset: `2026-01-31T13:00:00.000+01:00`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone().isoformat(timespec="milliseconds")


def length(seconds: float) -> str:
    """How long, in the two largest units that say something: `4 s`, `3 min 20 s`, `2 h 5 min`, `3 d 1 h`."""
    whole = max(int(seconds), 0)
    for unit_s, unit, below_s, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // below_s
            return f"{whole // unit_s} {unit} {rest} {below}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


def age(time_ms: int, now_s: float) -> str:
    return length(now_s - time_ms / 1000)
