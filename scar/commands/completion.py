"""`scar completion`: what makes bash, zsh or fish complete scar's words. Made from the parser itself, so it knows every command and flag.

Names of functions come from a small file that `scar ls` leaves in the cache: a press of a key never waits for a network.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scar.arguments import build

if TYPE_CHECKING:
    from scar.cli import Context

NAMES_FILE: Final = "names.txt"  # below the cache folder
_PLACES: Final = {"FILE", "PATH", "FOLDER"}  # what a value is called that is a path


@dataclass(frozen=True, slots=True)
class Flag:
    """`value`: "" for a flag that takes none, else `file`, `name`, `word` or the words that it may be, joined by spaces."""

    names: tuple[str, ...]
    help: str
    value: str


@dataclass(frozen=True, slots=True)
class Word:
    """A command (`ls`), or a command and its verb (`image ls`), with what may follow."""

    path: tuple[str, ...]
    help: str
    flags: tuple[Flag, ...]
    verbs: tuple[str, ...]
    choices: tuple[str, ...]
    files: bool


def completion(context: Context, args: argparse.Namespace) -> int:
    """Print the script for one shell."""
    from scar.commands.common import settings_of

    names = settings_of(context).cache / NAMES_FILE
    made = {"bash": bash, "zsh": zsh, "fish": fish}[args.shell](words(), names)
    context.report.raw(made.encode())
    return 0


def keep_names(cache: Path, names: Iterable[str]) -> None:
    """Remember what functions there are. What cannot be written is left: completion is a convenience."""
    path = cache / NAMES_FILE
    text = "".join(f"{name}\n" for name in names)
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        return


def words() -> tuple[Word, ...]:
    """Every command; the first is `scar` itself, whose path is empty."""
    return tuple(_words(build(), ()))


def _words(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[Word]:
    verbs: Mapping[str, argparse.ArgumentParser] = {}
    choices: tuple[str, ...] = ()
    files = False
    flags: list[Flag] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            verbs = action.choices
        elif action.option_strings:
            if action.help != argparse.SUPPRESS:
                flags.append(Flag(tuple(action.option_strings), _plain(action.help), _value(action)))
        elif action.choices:
            choices = tuple(map(str, action.choices))
        else:
            files = files or action.type is Path
    yield Word(path, _plain(parser.description), tuple(flags), tuple(verbs), choices, files)
    for name, verb in verbs.items():
        yield from _words(verb, (*path, name))


def _plain(text: str | None) -> str:
    """One line that no shell reads anything into."""
    line = " ".join((text or "").split())
    return "".join(c if c.isalnum() or c in " ,.;()/=-+%" else " " for c in line).strip()


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices:
        return " ".join(map(str, action.choices))
    metavar = str(action.metavar or "")
    if metavar.endswith("|FILE"):
        return "file"
    if "|" in metavar and metavar == metavar.lower() and metavar.replace("|", "").isalpha():
        return metavar.replace("|", " ")
    if action.type is Path or metavar in _PLACES:
        return "file"
    return "name" if action.dest == "name" else "word"


# -- bash -------------------------------------------------------------------------------------------------------


def bash(known: Iterable[Word], names: Path) -> str:
    """Sourced by bash 3.2 and newer; needs no bash-completion."""
    known = tuple(known)
    follow, values = [], []
    for word in known:
        path = " ".join(word.path)
        flags = [name for flag in word.flags for name in flag.names]
        listed = " ".join([*word.verbs, *word.choices, *flags])
        follow.append(f"    {_quoted(path)}) words={_quoted(listed)}; files={int(word.files)} ;;")
        values += [
            f"    {'|'.join(_quoted(f'{path} {name}') for name in flag.names)}) value={_quoted(flag.value)} ;;"
            for flag in word.flags
            if flag.value
        ]
    joined_follow, joined_values = "\n".join(follow), "\n".join(values)
    paths = "|".join(_quoted(" ".join(word.path)) for word in known if word.path)
    return f"""# bash completion of scar: source <(scar completion bash)
_scar() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" path="" words="" files=0 value="" word i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{COMP_WORDS[i]}}"
    case "${{path:+$path }}$word" in
    {paths}) path="${{path:+$path }}$word" ;;
    esac
  done
  case "$path $before" in
{joined_values}
  esac
  case "$value" in
  "") ;;
  file) COMPREPLY=($(compgen -f -- "$current")); return ;;
  name) [ -r {_quoted(str(names))} ] && COMPREPLY=($(compgen -W "$(cat {_quoted(str(names))})" -- "$current")); return ;;
  word) return ;;
  *) COMPREPLY=($(compgen -W "$value" -- "$current")); return ;;
  esac
  case "$path" in
{joined_follow}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [ "$files" = 1 ] && [ "${{current#-}}" = "$current" ]; then
    COMPREPLY+=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -o bashdefault -F _scar scar
"""


def _quoted(text: str) -> str:
    """A word of a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


# -- zsh --------------------------------------------------------------------------------------------------------


def zsh(known: Iterable[Word], names: Path) -> str:
    """For a folder of `fpath`, as `_scar`; works when sourced too."""
    known = tuple(known)
    by_path = {" ".join(word.path): word for word in known}
    cases = "\n".join(_zsh_case(path, word, by_path) for path, word in by_path.items())
    paths = "|".join(_quoted(path) for path in by_path if path)
    return f"""#compdef scar
# zsh completion of scar: scar completion zsh > "${{fpath[1]}}/_scar"
_scar_names() {{
  local -a found
  [[ -r {_quoted(str(names))} ]] && found=(${{(f)"$(<{_quoted(str(names))})"}})
  compadd -a found
}}
_scar() {{
  local at="" i
  local -a offered
  for ((i = 2; i < CURRENT; i++)); do
    case "${{at:+$at }}$words[i]" in
    {paths}) at="${{at:+$at }}$words[i]" ;;
    esac
  done
  case "$at" in
{cases}
  esac
}}
if [ "$funcstack[1]" = "_scar" ]; then
  _scar "$@"
else
  compdef _scar scar
fi
"""


def _zsh_case(path: str, word: Word, by_path: Mapping[str, Word]) -> str:
    specs = [
        _quoted(f"*{name}[{flag.help.replace('[', '(').replace(']', ')')}]{_zsh_value(flag.value)}")
        for flag in word.flags
        for name in flag.names
    ]
    lines = [f"  {_quoted(path)})"]
    if word.verbs:
        inner = [f"{verb}:{by_path[f'{path} {verb}'.strip()].help}" for verb in word.verbs]
        lines.append(f"    offered=({' '.join(map(_quoted, inner))})")
        lines.append("    if [[ $words[CURRENT] != -* ]]; then _describe command offered; return; fi")
    elif word.choices:
        specs.append(_quoted(f"*:word:({' '.join(word.choices)})"))
    elif word.files:
        specs.append(_quoted("*:file:_files"))
    else:
        specs.append(_quoted("*:word: "))
    lines.append(f"    _arguments -S {' '.join(specs)} ;;")
    return "\n".join(lines)


def _zsh_value(value: str) -> str:
    match value:
        case "":
            return ""
        case "file":
            return ":file:_files"
        case "name":
            return ":name:_scar_names"
        case "word":
            return ":word:"
        case choices:
            return f":word:({choices})"


# -- fish -------------------------------------------------------------------------------------------------------


def fish(known: Iterable[Word], names: Path) -> str:
    """For ~/.config/fish/completions/scar.fish."""
    known = tuple(known)
    by_path = {" ".join(word.path): word for word in known}
    lines = [
        "# fish completion of scar: scar completion fish > ~/.config/fish/completions/scar.fish",
        "function __scar_at",
        "    set -l path",
        "    set -l typed (commandline -opc)",
        "    for word in $typed[2..-1]",
        '        if contains -- (string trim "$path $word") $__scar_paths',
        '            set path (string trim "$path $word")',
        "        end",
        "    end",
        '    test "$path" = "$argv[1]"',
        "end",
        f"set -g __scar_paths {' '.join(_fish(path) for path in by_path if path)}",
        "complete -c scar -e",
        "complete -c scar -f",
    ]
    for path, word in by_path.items():
        here = f"complete -c scar -n {_fish(f'__scar_at {_fish(path)}')}"
        lines += [f"{here} -a {_fish(verb)} -d {_fish(by_path[f'{path} {verb}'.strip()].help)}" for verb in word.verbs]
        if word.choices:
            lines.append(f"{here} -a {_fish(' '.join(word.choices))}")
        if word.files:
            lines.append(f"{here} -F")
        lines += [f"{here} {_fish_flag(flag, names)}" for flag in word.flags]
    return "\n".join(lines) + "\n"


def _fish_flag(flag: Flag, names: Path) -> str:
    parts = []
    for name in flag.names:
        # fish calls `-x` short, `--xy` long and `-xy` old-style
        kind = "-l" if name.startswith("--") else "-s" if len(name) == 2 else "-o"
        parts.append(f"{kind} {_fish(name.lstrip('-'))}")
    match flag.value:
        case "":
            pass
        case "file":
            parts.append("-r -F")
        case "name":
            parts.append(f"-x -a {_fish(f'(cat {_fish(str(names))} 2>/dev/null)')}")
        case "word":
            parts.append("-x")
        case choices:
            parts.append(f"-x -a {_fish(choices)}")
    return f"{' '.join(parts)} -d {_fish(flag.help)}"


def _fish(text: str) -> str:
    """A word of fish: within single quotes only `\\` and `'` are special."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
