"""The words that show how functions hang together."""

from __future__ import annotations

from pathlib import Path

from scar.arguments.parser import Command, Verbs


def add(words: Verbs) -> None:
    graph = words.add(
        "graph",
        "draw which function's files start which other: of a definition file, or of the account",
        "scar graph -f function.yaml\nscar graph -f function.yaml --svg workflow.svg\nscar graph",
        _graph,
    )
    graph.add_argument(
        "-f",
        "--conf-file",
        type=Path,
        metavar="FILE",
        help="the functions of this definition file; needs no account. Without it, those that are deployed",
    )
    graph.add_argument(
        "--deployed", action="store_true", help="with -f: the functions of the file among those that are deployed"
    )
    graph.add_argument("--svg", type=Path, metavar="FILE", help="write the picture to this file")
    graph.add_argument(
        "--as", dest="text", choices=("boxes", "mermaid", "dot"), default="boxes", help="what to print (default: boxes)"
    )
    graph.add_argument("--ascii", action="store_true", help="draw with plain characters only")


def _graph() -> Command:
    from scar.commands.graph import graph

    return graph
