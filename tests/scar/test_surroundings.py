"""The command line where little is as it should be: no network, no credentials, a strange locale, a home that cannot be written to."""

from __future__ import annotations

import argparse
import http.server
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scar.arguments import build
from scar.aws.calls import masked
from scar.cli import main
from scar.errors import EXIT_CODES, ConflictError, DeniedError, NotFoundError, ServiceError, TimedOutError, UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No AWS configuration of anybody's; keys, and an address where nobody listens."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "SCAR_")):
            monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def refusing(nowhere: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An AWS that knows nobody's credentials."""
    asked: list[str] = []

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            body = b'{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}'
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    nowhere.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()


def test_where_there_is_no_network_one_line_says_so_soon(
    nowhere: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CL16, XF15."""
    began_s = time.monotonic()
    assert main(["ls"]) == ServiceError.exit_code
    assert time.monotonic() - began_s < 15
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "127.0.0.1:9" in told[0]
    assert "network" in told[1]


def test_wrong_credentials_are_one_line_with_the_cure(refusing: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """CL16."""
    assert main(["ls"]) == DeniedError.exit_code
    told = capsys.readouterr().err
    assert "does not accept these credentials" in told
    assert "aws sso login" in told
    assert "Traceback" not in told
    assert len(refusing) == 1


def test_a_sign_in_that_has_expired_names_the_cure(
    nowhere: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CL16: SSO without a token that is still good."""
    nowhere.delenv("AWS_ACCESS_KEY_ID")
    nowhere.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text(
        "[profile work]\nsso_session = it\nsso_account_id = 123456789012\nsso_role_name = me\n"
        "[sso-session it]\nsso_region = eu-west-1\nsso_start_url = https://registry.example/start\n"
    )
    nowhere.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert main(["ls", "--profile", "work"]) == DeniedError.exit_code
    assert "aws sso login" in capsys.readouterr().err


def test_calls_are_told_when_asked_and_no_secret_with_them(
    refusing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ls", "-v", "-j"]) == 4
    told = capsys.readouterr()
    assert "error" in json.loads(told.out)
    [line] = [line for line in told.err.splitlines() if line.startswith("aws ")]
    assert line.startswith("aws resource-groups-tagging-api:GetResources 400")
    assert main(["ls", "--debug"]) == 4
    told = capsys.readouterr()
    assert "scar:function" in told.err
    assert "Traceback" in told.err
    assert "very-secret" not in told.err


def test_what_may_be_secret_is_masked_wherever_it_stands() -> None:
    sent = {
        "FunctionName": "cow",
        "Environment": {"Variables": {"DB": "hidden-1"}},
        "Parameters": [{"Name": "n", "Value": "hidden-2"}],
        "Password": "hidden-3",
        "clientToken": "seen-1",
        "NextToken": "seen-2",
        "Body": b"hidden-4",
        "containerOverrides": {"environment": [{"name": "A", "value": "hidden-5"}]},
    }
    text = str(masked(sent))
    assert "hidden" not in text
    assert all(word in text for word in ("cow", "seen-1", "seen-2"))


@pytest.mark.parametrize("wanted", ["json", "yaml"])
def test_an_error_of_the_command_line_itself_is_one_document(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    """CL12."""
    assert main(["ls", "-o", wanted, "--no-such-flag"]) == 2
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["error"]["exit_code"] == 2
    assert main(["ls", "-o", wanted, "--query", "[?"]) == 2
    assert "JMESPath" in yaml.safe_load(capsys.readouterr().out)["error"]["what"]


def test_a_refusal_after_the_document_does_not_make_two_of_them(
    bucket: str, moto_url: str, nowhere: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CL12."""
    nowhere.setenv("AWS_ENDPOINT_URL", moto_url)
    nowhere.chdir(tmp_path)
    (tmp_path / "a").write_text("a")
    assert main(["put", "-b", bucket, "-p", "a"]) == 0
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "a").symlink_to("elsewhere")
    capsys.readouterr()
    assert main(["get", "-b", bucket, "-p", "to", "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["refused"] == ["a"]


@pytest.mark.parametrize(
    "surroundings",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "tr_TR.ISO-8859-9", "PYTHONIOENCODING": "iso-8859-9", "COLUMNS": "20"},
    ],
    ids=["C", "Turkish"],
)
def test_an_odd_locale_no_home_and_warnings_as_errors_change_nothing(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    """CL18, CL20."""
    text = "functions:\n  aws:\n  - lambda:\n      name: İı→\n      container:\n        image: registry.example/it\n"
    (tmp_path / "it.yaml").write_text(text, encoding="utf-8")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT}/faas-supervisor", "HOME": "/nonexistent/home"}
    done = subprocess.run(
        [sys.executable, "-O", "-W", "error", "-m", "scar", "validate", "it.yaml", "-o", "json"],
        capture_output=True,
        cwd=tmp_path,
        env=environ | surroundings,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout.decode("ascii"))["error"]["exit_code"] == 2
    assert b"it.yaml:4:" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_home_that_cannot_be_written_to_is_no_hindrance(
    moto_url: str, nowhere: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CL18."""
    nowhere.setenv("AWS_ENDPOINT_URL", moto_url)
    nowhere.setenv("HOME", "/proc/self/fdinfo")
    assert main(["ls", "-j"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_nothing_is_asked_where_nobody_can_answer(
    nowhere: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CL13."""
    nowhere.setenv("SCAR_LOCAL_STATE", str(tmp_path / "state"))
    assert main(["local", "reset", "--no-input"]) == UsageError.exit_code
    assert "--yes" in capsys.readouterr().err


def test_the_page_of_exit_codes_shows_every_code_that_there_is() -> None:
    """CL11."""
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    rows = [f"| {', '.join(map(str, codes))} | {meaning} |" for codes, meaning in EXIT_CODES.items()]
    assert [row for row in rows if row not in page] == []
    assert set(EXIT_CODES) >= {(kind.exit_code,) for kind in (UsageError, NotFoundError, DeniedError, ConflictError)}
    assert set(EXIT_CODES) >= {(kind.exit_code,) for kind in (ServiceError, TimedOutError)}


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from _parsers(inner)


def test_every_example_of_every_help_is_a_command_that_is_understood() -> None:
    parser, seen = build(), 0
    for one in _parsers(parser):
        if one.prog == "scar":
            continue
        assert one.epilog is not None, f"{one.prog} has no example"
        assert one.epilog.startswith("Example:"), one.prog
        for line in one.epilog.splitlines()[1:]:
            text = line.strip().removeprefix("source <(").removesuffix(")").partition(" > ")[0].partition(" | ")[0]
            words = shlex.split(text)
            assert words[0] == "scar", line
            assert parser.parse_args(words[1:]).command == words[1 if words[1] != "--local" else 2]
            seen += 1
    assert seen > 40


def test_logs_is_another_name_of_log_and_v_is_accepted_by_every_command() -> None:
    parse = build().parse_args
    assert parse(["logs", "-n", "cow"]).load is not None
    for words in (["init", "-f", "x"], ["run", "-n", "x"], ["ls"], ["rm", "-n", "x"], ["log", "-n", "x"]):
        assert parse([*words, "-v"]).verbose is True
