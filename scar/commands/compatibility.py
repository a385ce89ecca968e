"""The table of what became of SCAR 4.3.1's words: `python -m scar.commands.compatibility` writes the page, tests hold it against the program.

A flag is looked up in the parser, a key in the model of the definition language: what those do not know cannot be said to work.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from scar.arguments import build
from scar.commands.scar4 import (
    BEFORE,
    COMMANDS,
    FLAGS,
    KEYS,
    REFUSED,
    REPLACED,
    SCRIPT_VARIABLES,
    VARIABLES,
    Verdict,
    Word,
)
from scar.fdl.key import Field, keys_of
from scar.fdl.model import File, Function

INTRODUCTION: Final = """\
# What became of SCAR 4's words

Every command, flag, key and variable of SCAR 4.3.1, and what it does now. Generated from the program, which is held against this table by its tests:
nothing of SCAR 4 is an unknown word. *Replaced* means that the word is accepted, and that a warning says what took its place where that matters.
How to move is in [Coming from SCAR 4](../how-to/from-scar-4.md).
"""
VALUES: Final = (
    ("`runtime: python3.7` and other Pythons that Lambda retired", REPLACED, "a Python that Lambda has; the container's own stays"),
    ("`instance_types: [m3.medium]` in `scar.cfg`", REPLACED, "Batch's default: AWS has retired that family, and SCAR 4 wrote it for everybody"),
    ("`launch_template_name: faas-supervisor`", REPLACED, "nothing: jobs bring the agent in their image"),
    ("`instance_types` of the families `a1`, `p3`, `g3s` …", REFUSED, "Batch's machine images do not run on them any more; the message names what does"),
    ("an `input` that reaches what an `output` of the same workflow writes, as in the example `video-process`", REFUSED, "the functions would start each other for ever; the message says where"),
    ("`boto_profile: default`", BEFORE, "what AWS's own settings choose"),
    ("`boto_profile` and `region` of `iam`, `s3`, `cloudwatch`, `ecr`, `batch`, `api_gateway`", REFUSED, "where they differ from `lambda`'s: a function is in one account and region"),
)  # fmt: skip
FILES: Final = (
    ("`~/.scar/scar.cfg`, `$SCAR_CONFIG_FOLDER/scar.cfg`", BEFORE, "read as it is; never written, replaced or asked for. Ours is `$XDG_CONFIG_HOME/scar/config.yaml`"),
    ("`~/.scar/scar.log`, `~/.scar/scar_tmp.yaml`", REPLACED, "nothing is written"),
    ("lists in `scar.cfg` and in definitions", "works better", "a definition's list takes the place of the configuration's; SCAR 4 joined them"),
    ("exit code 0 after a crash, or after a script that failed", "works better", "[exit codes](exit-codes.md) tell what happened"),
)  # fmt: skip


def page() -> str:
    """docs/reference/compatibility.md."""
    parts = [INTRODUCTION, *_table("Commands", "command", (_row(word) for word in COMMANDS))]
    for command, flags in FLAGS.items():
        title = f"Flags of `scar {command}`" if command else "Flags of `scar`"
        parts += _table(title, "flag", (_row(word) for word in flags))
    parts += _table("Keys of a definition", "key", (_key_row(word) for word in KEYS))
    parts += _table(
        "Values and files", "what", (f"| {what} | {verdict} | {how} |" for what, verdict, how in (*VALUES, *FILES))
    )
    parts += _table("Variables of the command", "variable", (_row(word) for word in VARIABLES))
    parts += _table("Variables of a script", "variable", (_row(word) for word in SCRIPT_VARIABLES))
    return "\n".join(parts).rstrip() + "\n"


def option(command: str, name: str) -> argparse.Action | None:
    """The flag as the parser knows it."""
    parser = _parser()
    if command:
        (verbs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = verbs.choices[command]
    return parser._option_string_actions.get(name)


@functools.cache
def _parser() -> argparse.ArgumentParser:
    return build()


def field_of(key: str) -> Field | str | None:
    """What the model knows of a key path of SCAR 4: its field, the sentence about a retired key, or None for an unknown one."""
    section: type[Any] | None = Function
    steps = key.split(".")
    if key.startswith("."):
        section, steps = File, steps[1:]
    found: Field | str | None = None
    for step in steps:
        if step in {"ID", "CLUSTER", "Variables"}:
            continue
        if section is None:
            return None
        found = next((field for field in keys_of(section) if step in field.names), None)
        if found is None:
            retired: dict[str, str] = dict(getattr(section, "RETIRED", {}))
            return retired.get(step)
        if found.key.legacy:
            return found
        shape = found.shape
        while shape.item is not None:
            shape = shape.item
        section = shape.section
    return found


def _key_row(word: Word) -> str:
    found = field_of(word.name)
    verdict, how = word.verdict, word.how
    if isinstance(found, str):
        verdict, how = REPLACED, f"accepted without effect. {found}"
    elif found is not None and found.key.legacy:
        verdict, how = REPLACED, f"accepted, and {found.key.legacy}"
    return _line([word.name.lstrip(".")], verdict, how)


def _row(word: Word) -> str:
    return _line(word.names, word.verdict, word.how)


def _line(names: Iterable[str], verdict: Verdict, how: str) -> str:
    text = ", ".join(f"`{name}`" for name in names)
    return f"| {text} | {verdict} | {how.replace('|', chr(92) + '|')} |"


def _table(title: str, head: str, rows: Iterable[str]) -> Iterator[str]:
    yield from (f"## {title}", "", f"| {head} | now | how |", "|---|---|---|", *rows, "")


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md").write_text(page(), encoding="utf-8")
