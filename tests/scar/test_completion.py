"""Completion: the script that bash is given, run by the real bash; those of zsh and fish say the same words."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from scar.cli import main
from scar.commands.completion import bash, fish, keep_names, words, zsh


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("it's here")
    keep_names(folder, ["cow", "crow", "owl"])
    path = folder / "scar.bash"
    path.write_text(bash(words(), folder / "names.txt"))
    return path


def completed(script: Path, line: str) -> list[str]:
    """What bash offers for the last word of a line."""
    typed = shlex.split(line) + ([""] if line.endswith(" ") else [])
    program = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=({' '.join(map(shlex.quote, typed))}); "
        f'COMP_CWORD={len(typed) - 1}; _scar; for found in "${{COMPREPLY[@]}}"; do echo "$found"; done'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", program], capture_output=True, text=True, cwd=script.parent, check=True
    )
    assert done.stderr == ""
    return sorted(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("scar in", ["init", "invoke"]),
        ("scar --local lo", ["local", "log", "logs"]),
        ("scar image pr", ["prune"]),
        ("scar put --dr", ["--dry-run"]),
        ("scar completion f", ["fish"]),
        ("scar ls -o ", ["json", "table", "text", "yaml"]),
        ("scar run -n c", ["cow", "crow"]),
        ("scar run -f scar.b", ["scar.bash"]),
        ("scar log --since ", []),
        ("scar jobs --status FA", ["FAILED"]),
    ],
)
def test_bash_completes_words_flags_values_files_and_functions(script: Path, line: str, offered: list[str]) -> None:
    assert completed(script, line) == offered


def test_every_command_is_in_the_script_of_every_shell(tmp_path: Path) -> None:
    known = words()
    assert {("image", "prune"), ("local", "up"), ("explain",)} <= {word.path for word in known}
    for made in (bash, zsh, fish):
        text = made(known, tmp_path / "names.txt")
        for word in known:
            assert " ".join(word.path) in text
            assert all(flag.names[-1].lstrip("-") in text for flag in word.flags)


def test_completion_needs_neither_an_account_nor_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("SCAR_CACHE", str(tmp_path))
    assert main(["completion", "zsh"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"#compdef scar\n")


def test_names_that_cannot_be_kept_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep_names(tmp_path / "file" / "below", ["cow"])
    assert (tmp_path / "file").read_text() == ""
