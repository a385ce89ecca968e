"""How the functions of one file hang together: those that would start each other for ever, and inputs that S3 would not tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scar.fdl.model import Function, Io
from scar.fdl.places import shown
from scar.fdl.read import Reading
from scar.workflow.ends import End
from scar.workflow.graph import Node, graph
from scar.workflow.proof import loops, overlaps, ring_told


def node_of(fn: Function, where: Callable[[str, Io], str] = lambda key, item: "") -> Node:
    """The function as a workflow knows it. `where` answers the place of a key: `lambda.input[0].path`."""
    return Node(
        fn.name,
        inputs=_ends("input", fn.lambda_.input, where),
        outputs=_ends("output", fn.lambda_.output, where),
        mode=fn.lambda_.execution_mode,
    )


def _ends(name: str, items: Sequence[Io], where: Callable[[str, Io], str]) -> tuple[End, ...]:
    return tuple(
        End(item.path, item.prefix, item.suffix, item.provider, where(f"lambda.{name}[{number}].path", item))
        for number, item in enumerate(items)
    )


def check_workflow(functions: Sequence[Function], reading: Reading) -> None:
    """Add loops and overlapping inputs to the reading's problems. What could not be read takes no part."""
    paths: dict[int, str] = {}  # by identity of an end, for two of one function may be equal

    def node(index: int, fn: Function) -> Node:
        sound: dict[str, list[End]] = {"input": [], "output": []}
        for name, items in (("input", fn.lambda_.input), ("output", fn.lambda_.output)):
            for number, item in enumerate(items):
                path = f"functions.aws[{index}].lambda.{name}[{number}].path"
                if reading.sound(path):
                    line = reading.place(path).line
                    end = End(item.path, item.prefix, item.suffix, item.provider, f"line {line}" if line else "")
                    paths[id(end)] = path
                    sound[name].append(end)
        return Node(fn.name or f"functions.aws[{index}]", tuple(sound["input"]), tuple(sound["output"]))

    nodes = [node(index, fn) for index, fn in enumerate(functions)]
    for each in overlaps(nodes):
        if each.first.store != "s3":  # who else tells of files tells whoever listens
            continue
        whose = "this function" if each.earlier == each.later else f"`{nodes[each.earlier].name}`"
        path = paths[id(each.second)]
        filtered = each.first.filter or each.second.filter
        reading.problems.add(
            reading.place(path),
            path,
            f"`{shown(str(each.second))}` overlaps the input `{shown(str(each.first))}` of {whose}, and S3 tells each file to one function only",
            "Use folders of which none lies in another"
            + (", or suffixes of which none ends in another." if filtered else "."),
        )
    found = graph(nodes)
    for ring in loops(found):
        path = paths[id(ring[0].output)]
        reading.problems.add(reading.place(path), path, *ring_told(found, ring, shown))
