"""Runs that someone asks for by hand (`scar run`): `{}`, `{"script": …}`, `{"cmd_args": …}` or both, and no other field.

A payload with any other field is the user's own data, whatever else it contains.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

from faassupervisor.errors import BadEventError
from faassupervisor.events.items import DirectItem, Known, Payload


def parse(payload: Payload, _known: Known) -> Sequence[DirectItem] | None:
    """One run; None when the payload is something else. Raises BadEventError for a script or arguments that cannot be used.

    `script` is base64; `cmd_args` is a list of strings, or that list as JSON text.
    """
    document = payload.document
    if not isinstance(document, dict) or not document.keys() <= {"script", "cmd_args"}:
        return None
    return (
        DirectItem(
            event=payload.body if document else b"{}",
            script=_script(document["script"]) if "script" in document else None,
            arguments=_arguments(document["cmd_args"]) if "cmd_args" in document else None,
        ),
    )


def _script(value: object) -> bytes:
    if not isinstance(value, str) or not value:
        raise BadEventError("event: script: base64 text was expected")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadEventError(f"event: script: not base64: {error}") from error


def _arguments(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadEventError("event: cmd_args: not a JSON list") from error
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise BadEventError("event: cmd_args: a list of strings was expected")
    try:
        "".join(value).encode()
    except UnicodeEncodeError as error:
        raise BadEventError("event: cmd_args: not valid Unicode") from error
    return tuple(value)
