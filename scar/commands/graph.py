"""`scar graph`: functions, the places between them, and who starts whom; as a picture, and as a document for programs."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scar.commands.common import connect, read_definition
from scar.errors import ScarError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from scar.cli import Context
    from scar.workflow.ends import End
    from scar.workflow.graph import Graph, Node


def graph(context: Context, args: Namespace) -> int:
    """Draw a file's workflow without an account, or the account's."""
    from scar.workflow.graph import graph as joined
    from scar.workflow.picture import picture
    from scar.workflow.proof import loops, ring_told

    if args.deployed and not args.conf_file:
        raise UsageError("--deployed says what to draw around a file, and no file is named", fix="Name it with -f.")
    found = joined(_nodes(context, args))
    for ring in loops(found):  # of a file there are none: reading it would have refused them
        what, fix = ring_told(found, ring)
        context.report.complain(f"warning: {what}\n  {fix}")
    for node in found.nodes:
        if node.hidden:
            context.report.complain(f"warning: {node.hidden} inputs and outputs of {node.name} had no room in its tags")
    shown = picture(found)
    if args.svg is not None:
        from scar.workflow.svg import svg

        title = str(args.conf_file) if args.conf_file else "deployed functions"
        _write(args.svg, svg(shown, f"Workflow: {title}"))
    if context.report.json:
        context.report.document(_document(found, of_file=args.conf_file is not None))
    elif args.svg is not None:
        context.report.say(f"written: {args.svg}")
    elif not found.nodes:
        context.report.say("No function was made by SCAR here. Make one: scar init -f function.yaml")
    elif args.text == "boxes":
        from scar.workflow.text import drawn

        for line in drawn(shown, context.report.style.width, ascii_only=args.ascii or not _has_boxes()):
            context.report.line(line)
    else:
        from scar.workflow import words

        context.report.line(words.mermaid(shown) if args.text == "mermaid" else words.dot(shown))
    return 0


def _nodes(context: Context, args: Namespace) -> tuple[Node, ...]:
    """Those of the file, then those of the account that the file does not define."""
    functions = read_definition(context, args.conf_file) if args.conf_file else ()
    from scar.fdl.rules_workflow import node_of

    mine = tuple(node_of(fn) for fn in functions)
    if args.conf_file and not args.deployed:
        return mine
    from scar.plan.neighbours import nodes

    aws, _ = connect(context, functions)
    names = {node.name for node in mine}
    deployed = (node for node in nodes(aws) if node.name not in names)
    # What is deployed is told apart only beside what is not.
    return (*mine, *deployed) if mine else tuple(replace(node, known=True) for node in deployed)


def _document(found: Graph, *, of_file: bool) -> dict[str, Any]:
    def told(end: End) -> dict[str, Any]:
        return {"store": end.store, "path": end.path, "prefix": end.prefixes, "suffix": end.suffixes}

    return {
        "functions": [
            {
                "name": node.name,
                "mode": node.mode,
                "deployed": not of_file or not node.known,
                "input": [told(end) for end in node.inputs],
                "output": [told(end) for end in node.outputs],
            }
            for node in found.nodes
        ],
        "starts": [
            {
                "from": found.nodes[edge.source].name,
                "to": found.nodes[edge.target].name,
                "output": edge.output.path,
                "input": edge.input.path,
            }
            for edge in found.edges
        ],
    }


def _has_boxes() -> bool:
    """Whether standard output can show the characters of boxes."""
    try:
        "┌─▼│".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _write(path: Path, text: str) -> None:
    """Whole, or not at all."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ScarError(f"the picture cannot be written: {error.strerror}", where=str(path)) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
