"""Who starts whom: proven against trying it out, and drawn so that it fits."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scar.cli import main
from scar.workflow.ends import End, Finder, meet
from scar.workflow.graph import Node, graph
from scar.workflow.picture import picture
from scar.workflow.proof import loops, overlaps, ring_told
from scar.workflow.svg import svg
from scar.workflow.text import drawn

AFFIXES = st.lists(st.text("ab", max_size=2), max_size=2).map(tuple)
ENDS = st.builds(
    End, st.sampled_from(["k", "k/a", "k/ab", "k/a/b", "l"]), AFFIXES, AFFIXES, st.sampled_from(["s3", "minio.x"])
)
NODES = st.lists(
    st.builds(Node, st.just("f"), st.lists(ENDS, max_size=2).map(tuple), st.lists(ENDS, max_size=2).map(tuple)),
    max_size=6,
)


def holds(end: End, key: str) -> bool:
    """What S3 and the agent do with one key."""
    below = f"{end.folder}/" if end.folder else ""
    rest = key.removeprefix(below)
    return (
        key.startswith(below)
        and (not end.prefixes or any(rest.startswith(prefix) for prefix in end.prefixes))
        and (not end.suffixes or any(key.endswith(suffix) for suffix in end.suffixes))
    )


KEYS = ["".join(letters) for length in range(1, 10) for letters in itertools.product("ab/", repeat=length)]


@settings(max_examples=60, deadline=None)
@given(ENDS, ENDS)
def test_two_ends_meet_exactly_when_there_is_a_key_of_both(one: End, other: End) -> None:
    same = (one.store, one.bucket) == (other.store, other.bucket)
    assert meet(one, other) == (same and any(holds(one, key) and holds(other, key) for key in KEYS))


@settings(max_examples=100, deadline=None)
@given(st.lists(ENDS, max_size=12), ENDS)
def test_the_finder_finds_what_looking_at_all_of_them_finds(ends: list[End], end: End) -> None:
    assert Finder(ends).meeting(end) == [number for number, other in enumerate(ends) if meet(end, other)]


@settings(max_examples=100, deadline=None)
@given(NODES)
def test_there_is_a_loop_exactly_where_a_function_leads_back_to_itself(nodes: list[Node]) -> None:
    """CL24"""
    found = graph(nodes)
    reach = {(edge.source, edge.target) for edge in found.edges}
    for _ in nodes:
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c}
    told = list(loops(found))
    assert bool(told) == any(a == b for a, b in reach)
    for ring in told:
        assert all(before.target == after.source for before, after in itertools.pairwise([*ring, ring[0]]))
        assert all(meet(edge.output, edge.input) for edge in ring)


@given(ENDS)
def test_an_end_is_read_as_it_was_written(end: End) -> None:
    assert End.read(end.written()) == end


def test_a_loop_through_batch_and_through_what_is_deployed_names_every_place_where_it_can_be_cut() -> None:
    """CL24: over three functions, a folder within a folder, one of them a Batch hop and one of another file."""
    nodes = [
        Node("one", (End("a/in"),), (End("b", where="scar.yaml:9:19"),)),
        Node("two", (End("b/deep"),), (End("c/out"),), mode="batch"),
        Node("three", (End("c"),), (End("a"),), mode="lambda-batch", known=False),
    ]
    found = graph(nodes)
    (ring,) = loops(found)
    what, fix = ring_told(found, ring)
    assert what == "the functions would start each other for ever: one → b → two → c/out → three → a → one"
    assert fix == (
        "Let one of them write to a folder that starts nothing: `b` (scar.yaml:9:19), `c/out`, `a` (of three, which is deployed)."
    )


def test_inputs_overlap_as_s3_sees_it() -> None:
    """Equal endings in folders apart do not, nor do endings apart in one folder; `pg` and `.jpg` do."""
    apart = [Node("a", (End("k/in", (), (".jpg",)),)), Node("b", (End("k/in", (), (".png",)), End("k/input")))]
    assert not list(overlaps(apart))
    (one,) = overlaps([*apart, Node("c", (End("k", (), ("pg",)),))])
    assert (one.earlier, one.later) == (0, 2)
    assert not list(overlaps([Node("a", (End("k", store="minio.x"),)), Node("b", (End("k", store="minio.x"),))]))


STEPS = [
    Node("grayify", (End("photos/in"),), (End("photos/gray", (), (".png",)),)),
    Node("ascii", (End("photos/gray"),), (End("photos/text"), End("errors")), mode="lambda-batch"),
]
BOXES = """\
       photos/in
           │
           ▼
      ┌─────────┐
      │ grayify │
      └─────────┘
           │
           ▼
      photos/gray
        (*.png)
           │
           ▼
  ┌─────────────────┐
  │      ascii      │
  │  (lambda-batch) │
  └─────────────────┘
         │   │
     ┌───┘   └──┐
     ▼          ▼
photos/text   errors
"""


def test_a_workflow_is_drawn_with_boxes_and_arrows() -> None:
    drawn_ = "\n".join(drawn(picture(graph(STEPS)), 80))
    assert drawn_ + "\n" == BOXES
    plain = "\n".join(drawn(picture(graph(STEPS)), 80, ascii_only=True))
    assert plain.isascii()
    assert "|  (lambda-batch) |" in plain


def stages(deep: int, wide: int) -> list[Node]:
    return [
        Node(
            f"stage{at}-{row}",
            (End(f"b/{at}/{row}"),),
            (End(f"b/{at + 1}/{row}"), End(f"b/{at + 1}/{(row + at) % wide}")),
        )
        for at in range(deep)
        for row in range(wide)
    ]


@pytest.mark.parametrize(
    ("nodes", "width"), [(stages(10, 3), 80), (stages(6, 5), 80), (stages(1, 30), 80), (stages(3, 10), 40), (STEPS, 20)]
)
def test_thirty_functions_fit_the_width_and_none_is_missing(nodes: list[Node], width: int) -> None:
    lines = drawn(picture(graph(nodes)), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(node.name in text for node in nodes)


def test_a_loop_of_deployed_functions_is_drawn_with_an_arrow_that_goes_back() -> None:
    nodes = [Node("one", (End("a"),), (End("b"),)), Node("two", (End("b"),), (End("a"),), known=False)]
    text = "\n".join(drawn(picture(graph(nodes)), 80))
    assert "▲" in text
    assert "(deployed)" in text


def test_the_svg_is_well_formed_whatever_things_are_called() -> None:
    hostile = 'a"]<script>&\x1b[2J\ud800'
    text = svg(picture(graph([Node(hostile, (End(f"k/{hostile}"),), (End("k/out"),))])), hostile)
    root = ElementTree.fromstring(text)
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_graph_of_a_file_needs_no_account(
    tmp_path: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    functions = [
        {
            "lambda": {
                "name": "one",
                "container": {"image": "scratch"},
                "input": [{"path": "kit/in"}],
                "output": [{"path": "kit/mid"}],
            }
        },
        {
            "lambda": {
                "name": "two",
                "container": {"image": "scratch"},
                "input": [{"path": "kit/mid"}],
                "execution_mode": "batch",
            }
        },
    ]
    Path("f.yaml").write_text(json.dumps({"functions": {"aws": functions}}))
    assert main(["graph", "-f", "f.yaml", "--svg", "f.svg", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["starts"] == [{"from": "one", "to": "two", "output": "kit/mid", "input": "kit/mid"}]
    assert [each["mode"] for each in document["functions"]] == ["lambda", "batch"]
    assert ElementTree.parse("f.svg").getroot().get("role") == "img"
    assert main(["graph", "-f", "f.yaml", "--as", "dot"]) == 0
    assert "n0 -> n2;" in capsys.readouterr().out
    assert main(["graph", "-f", "f.yaml", "--as", "mermaid"]) == 0
    assert 'n2(["kit/mid"])' in capsys.readouterr().out
    assert main(["graph", "-f", "f.yaml", "--svg", "no/such/folder.svg"]) == 1
    assert "no/such/folder.svg: the picture cannot be written" in capsys.readouterr().err
