"""A workflow as text for other programs: Mermaid and Graphviz's DOT."""

from __future__ import annotations

from scar.workflow.picture import Picture


def mermaid(of: Picture) -> str:
    """A flowchart; functions are boxes, places have round ends."""
    lines = ["flowchart LR"]
    for at, thing in enumerate(of.things):
        text = _quoted(thing.name + (f" ({thing.detail})" if thing.detail else ""), "#quot;")
        lines.append(f"  n{at}[{text}]" if thing.is_function else f"  n{at}([{text}])")
    lines += [f"  n{arrow.source} --> n{arrow.target}" for arrow in of.arrows]
    return "\n".join(lines)


def dot(of: Picture) -> str:
    """A digraph for `dot -Tsvg`."""
    lines = ["digraph scar {", "  rankdir=LR;"]
    for at, thing in enumerate(of.things):
        text = _quoted(thing.name.replace("\\", "\\\\") + (f"\\n({thing.detail})" if thing.detail else ""), '\\"')
        lines.append(f"  n{at} [label={text}, shape={'box' if thing.is_function else 'plaintext'}];")
    lines += [f"  n{arrow.source} -> n{arrow.target};" for arrow in of.arrows]
    return "\n".join([*lines, "}"])


def _quoted(text: str, quote: str) -> str:
    safe = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return '"' + safe.replace('"', quote) + '"'
