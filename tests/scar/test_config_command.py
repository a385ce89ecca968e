"""`scar config`: every setting with its value and where that comes from, one by its name, and no password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scar.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "SCAR_REGION", "SCAR_LOCAL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "SCAR_CONFIG_FOLDER": tmp_path, "AWS_CONFIG_FILE": tmp_path / "aws", "AWS_SHARED_CREDENTIALS_FILE": tmp_path / "none",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    return tmp_path


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, tuple[object, str]]:
    assert main(["config", *words, "-j"]) == 0
    rows = json.loads(capsys.readouterr().out)
    return {row["key"]: (row["value"], row["origin"]) for row in ([rows] if isinstance(rows, dict) else rows)}


def test_each_place_that_can_say_something_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(capsys, "region") == {"region": (None, "default")}
    (folder / "aws").write_text("[default]\nregion = eu-north-1\n")
    assert asked(capsys, "region") == {"region": ("eu-north-1", "AWS configuration file")}
    (folder / "scar.cfg").write_text(
        json.dumps({"aws": {"lambda": {"region": "eu-west-1", "memory": 2048, "timeout": 60}}})
    )
    assert asked(capsys, "region") == {"region": ("eu-west-1", str(folder / "scar.cfg"))}
    (folder / "config.yaml").write_text("lambda:\n  region: eu-west-2\n  memory: 1024\n")
    assert asked(capsys, "region") == {"region": ("eu-west-2", str(folder / "config.yaml"))}
    assert asked(capsys, "lambda.memory") == {"aws.lambda.memory": (1024, f"{folder / 'config.yaml'}:3")}
    assert asked(capsys, "lambda.timeout") == {"aws.lambda.timeout": (60, f"{folder / 'scar.cfg'}:1")}
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert asked(capsys, "region") == {"region": ("eu-west-3", "AWS_REGION")}
    assert asked(capsys, "profile") == {"profile": ("lab", "AWS_PROFILE")}
    monkeypatch.setenv("SCAR_REGION", "eu-central-1")
    assert asked(capsys, "region") == {"region": ("eu-central-1", "SCAR_REGION")}
    assert asked(capsys, "region", "--region", "us-east-2") == {"region": ("us-east-2", "flag --region")}


def test_a_section_or_a_last_word_is_enough_and_a_wrong_one_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(asked(capsys, "memory")) == {"aws.lambda.memory", "aws.batch.memory"}
    assert all(key.startswith("aws.batch.compute_resources.") for key in asked(capsys, "batch.compute_resources"))
    assert main(["config", "lambda.memmory"]) == 3
    assert "Did you mean lambda.memory?" in capsys.readouterr().err
    assert main(["config", "lambda.memory"]) == 0
    assert capsys.readouterr().out == "aws.lambda.memory: 512  (default)\n"


def test_a_password_is_not_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SE5"""
    (folder / "config.yaml").write_text("oscar: {mine: {endpoint: 'https://oscar.example', auth_password: hunter2}}")
    assert asked(capsys, "oscar")["oscar.mine.auth_password"][0] == "(hidden)"
    assert main(["config"]) == 0
    assert "hunter2" not in capsys.readouterr().out
