"""What `scar run` sends: a document of the user's, or the script and the arguments of one run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scar.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.fdl.model import Function


def payload_of(args: Namespace, fn: Function | None) -> bytes:
    """The event: a document given with `-e`, or what the predecessor's `run` sends (`script`, `cmd_args`)."""
    if args.event is not None or args.json_data is not None:
        if args.run_script or args.c_args or (args.event is not None and args.json_data is not None):
            raise UsageError("an event cannot be combined with another, a script or arguments")
        return _document(args.event) if args.json_data is None else _written(args.json_data)
    event: dict[str, Any] = {}
    script = args.run_script or (fn.lambda_.run_script if fn else None)
    arguments = args.c_args or (list(fn.lambda_.c_args) if fn else [])
    if script is not None:
        if not script.is_file():
            raise NotFoundError(f"{script}: no such script")
        event["script"] = base64.b64encode(script.read_bytes()).decode("ascii")
    if arguments:
        event["cmd_args"] = json.dumps(arguments)
    return json.dumps(event).encode()


def _document(path: Path) -> bytes:
    try:
        text = path.read_bytes()
        json.loads(text)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    return text


def _written(text: str) -> bytes:
    try:
        json.loads(text)
        return text.encode()
    except ValueError as error:
        raise UsageError(f"--json-data is not JSON: {error}") from error
