"""What the documentation shows is what the program does."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from scar.arguments import build
from scar.fdl.load import parse
from tests.e2e.conftest import ROOT, Local, until
from tests.e2e.test_images import docker_archive

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]*\bscar [^`\n]*)`")


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path, *, in_sentences: bool = True) -> list[str]:
    """Every command line that a page shows with real words (no NAME, no ellipsis), in its order."""
    text = page.read_text()
    shown = [(found.start(), found[2].replace("\\\n", " ")) for found in FENCED.finditer(text) if found[1] == "sh"]
    around = FENCED.sub(lambda found: " " * len(found[0]), text)
    if in_sentences:
        shown += [(found.start(), found[1]) for found in SPAN.finditer(around) if "\\|" not in found[1]]
    lines = (line for _, part in sorted(shown) for line in part.splitlines())
    found = [shlex.join(words) for line in lines for words in simple_commands(line)]
    return [line for line in found if not re.search(r"\b[A-Z]{2,}\b|…|\.\.\.", line)]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell that are SCAR's: of a pipe, a list or a substitution, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            if command[:1] == ["scar"] and len(command) > 1:
                yield command
            command = ["the file of a redirection:"] if set(word) <= set("<>") else []
        else:
            command.append(word)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_shown_is_one_that_the_program_understands(page: Path) -> None:
    """Blocks show whole commands. A sentence may name a command and some of its flags."""
    parser, typed = build(), commands(page, in_sentences=False)
    for line in commands(page):
        words = shlex.split(line)[1:]
        if line not in typed and not any(word[0] != "-" for word in words[words[0] == "--local" :][1:]):
            assert {word for word in words if word[0] == "-"} <= flags(words[words[0] == "--local"])
            continue
        try:
            parser.parse_args(words)
        except SystemExit as left:  # --help
            assert left.code == 0


def verb_parsers() -> dict[str, argparse.ArgumentParser]:
    (action,) = (one for one in build()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)


def flags(verb: str) -> set[str]:
    """What may stand behind a command, or before it."""
    if verb[0] == "-":
        return {"--help", "--version"}
    return {"--local", *verb_parsers()[verb]._option_string_actions}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "\n```yaml\nfunctions:" in page.read_text()],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_definition_shown_is_valid(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "yaml"):
        if text.startswith("functions:"):
            for script in re.findall(r"script: (\S+)", text):
                (tmp_path / script).write_text("#!/bin/sh\n")
            named = dict.fromkeys(re.findall(r"\$\{env\.(\w+)\}", text), "a value")
            definition = parse(text.replace("…", "0" * 64), "page.yaml", tmp_path, environ=named)
            assert definition.functions or definition.services
            assert definition.warnings == ()


def test_the_readme_names_every_command() -> None:
    table = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("\n## ")[0]
    named = set(re.findall(r"[a-z]+", " ".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert set(verb_parsers()) - {"logs"} <= named  # another word for `log`


def test_the_list_of_decisions_is_complete() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\[(\d{4})\]\((\S+)\) (.+)", (folder / "README.md").read_text())
    titles = {path.name: path.read_text().partition("\n")[0].removeprefix("# ") for path in folder.glob("0*.md")}
    assert {name: title for _, name, title in listed} == titles
    assert all(name.startswith(number) for number, name, _ in listed)


def test_the_pages_show_commands_at_all() -> None:
    assert sum(len(commands(page)) for page in PAGES) >= 40


def test_the_function_of_the_readme_works_as_written(own_local: Local) -> None:
    """Only its image is another: one that needs no registry."""
    definition, script = blocks(ROOT / "README.md", "yaml")[0], blocks(ROOT / "README.md", "sh")[2]
    assert "tr a-z A-Z" in script
    docker_archive(own_local.folder / "image.tar")
    definition, replaced = re.subn(r"image: debian:\S+", "image_file: image.tar", definition)
    assert replaced == 1
    (own_local.folder / "cow.yaml").write_text(definition)
    (own_local.folder / "cow.sh").write_text(script)
    session = next(block for block in blocks(ROOT / "README.md", "sh") if "letter.txt" in block)
    first, *lines = [line.partition("#")[0].strip() for line in session.splitlines() if line.strip()]
    assert first == "echo moo > letter.txt"
    (own_local.folder / "letter.txt").write_text("moo\n")
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["scar", "--local"]
        own_local.must(*words[2:])
        if words[2] == "put":
            until("the output", lambda: own_local.keys("my-bucket", "out/"))
    assert (own_local.folder / "results" / "out" / "letter.txt").read_text() == "MOO\n"


def test_the_tutorial_works_as_written(own_local: Local) -> None:
    own_local.must("local", "demo")
    script = own_local.folder / "scar-demo" / "ascii.py"
    script.write_text(script.read_text().replace('" .:-=+*#%@"', '" .oO@"'))
    for line in commands(ROOT / "docs" / "tutorial" / "first-function.md"):
        words = [word for word in shlex.split(line)[1:] if word != "--local"]
        if words[:2] != ["local", "demo"] and words[0] != "log" and words != ["local", "reset"]:
            own_local.must(*words)
        if words[0] == "put":
            until("the new text", lambda: text(own_local) and "O" in text(own_local))
    assert own_local.must("ls", "-o", "json").json == []


def text(local: Local) -> str:
    body = local.client("s3").get_object(Bucket="scar-demo", Key="text/cat.txt")["Body"].read()
    return str(body.decode())


def test_every_variable_that_the_program_reads_or_sets_is_in_the_reference() -> None:
    sources = [*(ROOT / "scar").rglob("*.py"), *(ROOT / "faas-supervisor").rglob("*.py")]
    known = {name for path in sources for name in re.findall(r'"(SCAR_[A-Z_]+)"', path.read_text())}
    pages = "".join(
        (ROOT / "docs" / "reference" / name).read_text()
        for name in ("settings.md", "environment.md", "compatibility.md")
    )
    assert len(known) >= 10
    assert {name for name in known if f"`{name}`" not in pages} == set()
