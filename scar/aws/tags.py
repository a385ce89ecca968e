"""Tags: how an object says that it is ours, which function it belongs to, and what `ls` shows of it without another call.

`scar:version` tells who wrote last. It is written and never compared, so that a newer scar alone changes nothing. `scar:settled` tells what
the last `init` that came to its end left (plan.settled); it is not compared either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypedDict

from scar import __version__
from scar.errors import ConflictError

Pairs = tuple[tuple[str, str], ...]

CREATED_BY: Final = "createdby"
SCAR: Final = "scar"
FUNCTION: Final = "scar:function"
SHARED: Final = "scar:shared"  # the label of what several functions use: it belongs to none of them
VERSION: Final = "scar:version"
MODE: Final = "scar:mode"
IMAGE: Final = "scar:image"
INPUT: Final = "scar:input"
OUTPUT: Final = "scar:output"
SETTLED: Final = "scar:settled"
STAGE: Final = "scar:stage"  # of a REST API: the stage, who may call it, and the path if it is one path only
AUTH: Final = "scar:auth"
PATH: Final = "scar:path"
URL: Final = "scar:url"  # on a function with a URL: who may call that
KEEP: Final = "scar:keep"  # on a repository: `rm` leaves it

_NOT_COMPARED: Final = frozenset({VERSION, SETTLED})
VALUE_CHARS: Final = 256  # the shortest limit of the services we tag


class KeyValue(TypedDict):
    Key: str
    Value: str


def of_function(name: str, user: Mapping[str, str], more: Mapping[str, str] | None = None) -> Pairs:
    """The tags of one object of a function: the user's, over which ours always win."""
    return pairs({**user, CREATED_BY: SCAR, FUNCTION: name, **(more or {})})


def of_shared(label: str) -> Pairs:
    """The tags of what the functions of a label share. No user's tags are among them: the functions may not agree on those."""
    return pairs({CREATED_BY: SCAR, SHARED: label})


def pairs(tags: Mapping[str, str]) -> Pairs:
    """As a resource holds them: sorted, without what is not compared or is AWS's own (`aws:…`)."""
    return tuple(
        sorted((key, value) for key, value in tags.items() if key not in _NOT_COMPARED and not key.startswith("aws:"))
    )


def pairs_of(tags: Iterable[Mapping[str, Any]]) -> Pairs:
    return pairs({tag["Key"]: tag["Value"] for tag in tags})


def written(tags: Pairs) -> dict[str, str]:
    """As AWS is told them, in the services that take a mapping."""
    return {**dict(tags), VERSION: __version__}


def key_values(tags: Pairs) -> list[KeyValue]:
    """As AWS is told them, in the services that take a list."""
    return [KeyValue(Key=key, Value=value) for key, value in written(tags).items()]


def removed(actual: Pairs, wanted: Pairs) -> list[str]:
    """Keys to untag."""
    keep = {key for key, _ in wanted}
    return [key for key, _ in actual if key not in keep]


def is_ours(actual: Pairs, function: str, shared: str | None = None) -> bool:
    """Whether an object was made for this function, or for those that share a label."""
    return dict(actual).get(FUNCTION) == function if shared is None else dict(actual).get(SHARED) == shared


def ours_only(actual: Pairs, what: str, function: str, shared: str | None = None) -> None:
    """Refuse to touch an object that carries our name without our tag: the function's, or the label's where it is shared."""
    if is_ours(actual, function, shared):
        return
    whom = function if shared is None else f"the functions that share {shared}"
    name = "the function" if shared is None else "the label"
    raise ConflictError(
        f"{what} exists already and was not made by scar for {whom}",
        fix=f"Choose another name for {name}, or remove {what} yourself.",
    )


def packed(items: Sequence[str]) -> str:
    """A list as one tag value. Items are escaped and joined by spaces; those that do not fit are counted: `a b +3`."""
    words = [_escaped(item) for item in items]
    for kept in range(len(words), -1, -1):
        left = len(words) - kept
        value = " ".join(words[:kept] + ([f"+{left}"] if left else []))
        if len(value) <= VALUE_CHARS:
            return value
    raise AssertionError("a count always fits")


def unpacked(value: str) -> tuple[str, ...]:
    """What `packed` was given; a last item `+3` stands for three that did not fit."""
    return tuple(_unescaped(word) for word in value.split())


def _escaped(text: str) -> str:
    """Every service takes letters, digits and `_.:/=+-@`; other bytes become `=XX`, and so do `=` and a leading `+`."""
    safe = re.sub(r"[^A-Za-z0-9_.:/+@-]", lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), text)
    return "=2B" + safe[1:] if safe.startswith("+") else safe


def _unescaped(word: str) -> str:
    raw = re.sub(rb"=([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), word.encode())
    return raw.decode(errors="replace")
