"""The command line as a stranger meets it: exit codes, streams, help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scar.arguments import build
from scar.cli import main

VERBS = [
    "init", "plan", "validate", "schema", "ls", "rm", "put", "get", "run", "log", "jobs", "wait", "cancel", "terminate", "image", "local",
]  # fmt: skip


def scar(*words: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own, with nothing of the caller's AWS configuration."""
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(cwd or "/nonexistent"),
        "PYTHONPATH": f"{ROOT}:{ROOT}/faas-supervisor",
        **environ,
    }
    return subprocess.run(
        [sys.executable, "-m", "scar", *words],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env=env,
        timeout=60,
        check=False,
    )


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    assert "Example:" in capsys.readouterr().out


def test_no_command_shows_the_help_and_is_a_usage_error() -> None:
    done = scar()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "scar local demo" in done.stderr


def test_an_unknown_command_is_a_usage_error_on_standard_error() -> None:
    done = scar("ini")
    assert (done.returncode, done.stdout) == (2, "")
    assert "invalid choice" in done.stderr
    assert "Traceback" not in done.stderr


def test_flags_may_stand_before_or_after_the_command_and_the_later_one_counts() -> None:
    parse = build().parse_args
    assert parse(["--local", "ls"]).local is True
    assert parse(["ls", "--local"]).local is True
    assert parse(["ls"]).local is None
    assert parse(["--region", "a", "ls", "--region", "b"]).region == "b"
    assert parse(["-o", "json", "ls"]).output == "json"
    assert parse(["ls", "-j"]).output == "json"


def test_an_error_is_told_as_one_json_document_when_json_was_asked_for(tmp_path: Path) -> None:
    done = scar("ls", "-o", "json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert done.returncode == 2
    assert document["error"]["exit_origin"] == "tool"
    assert "region" in document["error"]["what"]


def test_without_a_region_it_is_asked_for_and_never_guessed(tmp_path: Path) -> None:
    done = scar("ls", cwd=tmp_path)
    assert done.returncode == 2
    assert "no AWS region is set" in done.stderr
    assert "scar --local" in done.stderr


def test_without_credentials_the_error_says_so_with_its_own_exit_code(tmp_path: Path) -> None:
    done = scar("ls", "--region", "eu-west-1", cwd=tmp_path, AWS_EC2_METADATA_DISABLED="true")
    assert done.returncode == 4
    assert "credentials" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_profile_is_named(tmp_path: Path) -> None:
    done = scar("ls", "--region", "eu-west-1", "-pf", "nobody", cwd=tmp_path)
    assert done.returncode == 4
    assert "nobody" in done.stderr


def test_a_missing_definition_file_is_one_clear_error(tmp_path: Path) -> None:
    done = scar("validate", "-f", "absent.yaml", cwd=tmp_path)
    assert done.returncode in {2, 3}
    assert "absent.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error_message() -> None:
    line = f"{sys.executable} -m scar schema | head -c 1"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr == ""


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert scar("--version").stdout.strip() == f"SCAR {version('scar')}"


def test_the_reference_page_is_what_the_program_says() -> None:
    from scar.commands.manual import reference_markdown

    page = ROOT / "docs" / "reference" / "cli.md"
    assert page.read_text() == reference_markdown(), "write it anew: python -m scar.commands.manual"


def test_every_command_answers_with_a_table_unless_asked_otherwise() -> None:
    parse = build().parse_args
    for words in (["ls"], ["schema"], ["plan", "-f", "x"], ["put", "-b", "b", "-p", "p"], ["local", "status"]):
        assert parse(words).output == "table"
