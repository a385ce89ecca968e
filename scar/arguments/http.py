"""The words about HTTP endpoints."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from scar.arguments.parser import Command, Verbs, common, one_function

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
# A name as HTTP has it, and a value of one line; source: RFC 9110, section 5
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")


def add(words: Verbs) -> None:
    invoke = words.add(
        "invoke",
        "call the HTTP endpoint of a function: its REST API, or else its URL",
        "scar invoke -n cow\nscar invoke -n cow -db photo.jpg -o grey.jpg\n"
        "scar invoke -n cow -jd '{\"moo\": 2}' -p '{\"loud\": true}'\nscar invoke -n cow -db film.mp4 -a",
        _invoke,
        common(output_file=True),
    )
    one_function(invoke)
    body = invoke.add_mutually_exclusive_group()
    body.add_argument("-db", "--data-binary", type=Path, metavar="FILE", help="send this file, byte for byte")
    body.add_argument("-jd", "--json-data", type=_json, metavar="JSON", help="send this JSON document")
    invoke.add_argument(
        "-p",
        "--parameters",
        type=_parameters,
        default=(),
        metavar="JSON",
        help="query parameters: an object, in which a list means a parameter several times",
    )
    invoke.add_argument(
        "-a", "--asynchronous", action="store_true", help="do not wait for the run; its request id is printed"
    )
    invoke.add_argument("--path", default="", metavar="/PATH", help="below the endpoint's own path")
    invoke.add_argument(
        "-X", "--method", type=str.upper, choices=_METHODS, metavar="METHOD", help="default: GET, or POST with data"
    )
    invoke.add_argument(
        "-H",
        "--header",
        action="append",
        type=_header,
        default=[],
        metavar="'NAME: VALUE'",
        help="a header more; may be given several times",
    )


def _json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    return text


def _parameters(text: str) -> tuple[tuple[str, str], ...]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is no JSON object, such as {{"size": 3}}')
    pairs = [(name, one) for name, value in found.items() for one in (value if isinstance(value, list) else [value])]
    return tuple((name, _written(value)) for name, value in pairs)


def _written(value: Any) -> str:
    """A text as it is, anything else as JSON has it; null is an empty text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _header(text: str) -> tuple[str, str]:
    found = _HEADER.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no header, such as 'Accept: image/png'")
    return found[1], found[2].rstrip()


def _invoke() -> Command:
    from scar.commands.invoke import invoke

    return invoke
