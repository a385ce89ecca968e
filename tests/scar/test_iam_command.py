"""`scar iam`: policies as JSON, told without an account."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from scar.aws.errors import told as told_by_aws
from scar.cli import main
from scar.errors import DeniedError

WHERE = ("--account", "123456789012", "--region", "eu-west-1")
FILE = """
functions:
  aws:
    - lambda:
        name: cow
        container: {image: busybox}
        input: [{path: farm/in}]
        output: [{path: farm/out}]
    - lambda:
        name: herd
        execution_mode: batch
        container: {image: busybox}
      batch: {vcpus: 1, memory: 512}
    - lambda:
        name: packed
        runtime: python3.13
        container: {image: busybox}
    - lambda:
        name: borrowed
        container: {image: busybox}
      iam: {role: "arn:aws:iam::123456789012:role/somebody"}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing is there to be asked
    path = tmp_path / "f.yaml"
    path.write_text(FILE)
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["iam", *words, *WHERE]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_roles_of_each_function_are_told_without_an_account(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """SE1."""
    found = {each["function"]: each for each in told(capsys, "-f", file)["functions"]}
    kinds = {name: [role["for"] for role in each["roles"]] for name, each in found.items()}
    assert kinds["cow"] == ["lambda"]
    assert sorted(kinds["herd"]) == ["execution", "job", "lambda", "machines"]
    assert (kinds["borrowed"], found["borrowed"]["uses_role"]) == ([], "arn:aws:iam::123456789012:role/somebody")
    sids = [one["Sid"] for one in found["packed"]["roles"][0]["policy"]["Statement"]]
    assert "OwnCode" in sids


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-n", "cow", "--role", "lambda"), "s3:PutObject"),
        (("-n", "herd", "--role", "job"), "s3:GetObject"),
        (("-n", "herd", "--role", "execution"), "ecr:BatchGetImage"),
        (("-n", "cow", "--trust"), "lambda.amazonaws.com"),
        (("-n", "herd", "--role", "job", "--trust"), "ecs-tasks.amazonaws.com"),
    ],
)
def test_one_policy_is_a_document_that_iam_takes(
    file: str, words: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = told(capsys, "-f", file, *words)
    assert document["Version"] == "2012-10-17"
    assert expected in json.dumps(document)


def test_the_operators_policy_is_of_the_files_functions_and_the_commands_asked_for(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """SE2."""
    document = told(capsys, "--operator", "-f", file, "-n", "cow", "--for", "run,log")
    actions = {action for one in document["Statement"] for action in one["Action"]}
    assert "lambda:InvokeFunction" in actions
    assert not {action for action in actions if "Create" in action or "Delete" in action}
    assert "function:cow" in json.dumps(document)
    anything = told(capsys, "--operator", "--for", "init")
    assert "arn:aws:iam::123456789012:role/scar-*" in json.dumps(anything)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--operator", "--for", "init,dance"), "dance"),
        (("--operator", "--part", "9"), "no part 9"),
        ((), "no definition file"),
        (("-n", "borrowed", "--role", "lambda"), "iam.role"),
        (("-n", "herd", "--role", "machines"), "AmazonEC2ContainerServiceforEC2Role"),
    ],
)
def test_what_there_is_not_is_told_in_words(
    file: str, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = () if not words or "--operator" in words else ("-f", file)
    assert main(["iam", *given, *words, *WHERE]) == 2
    assert said in capsys.readouterr().err


def test_an_account_has_twelve_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iam", "--operator", "--account", "12", "--region", "eu-west-1"]) == 2
    assert "12 digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "User: arn:aws:iam::123456789012:user/u is not authorized to perform: lambda:CreateFunction on resource: "
            "arn:aws:lambda:eu-west-1:123456789012:function:cow because no identity-based policy allows it",
            "Ask for lambda:CreateFunction on arn:aws:lambda:eu-west-1:123456789012:function:cow,",
        ),
        ("Access Denied", "Ask for the permission that CreateFunction needs,"),
    ],
)
def test_a_refused_call_says_what_to_ask_for_and_where_all_of_it_is(message: str, said: str) -> None:
    """SE2: the action that is missing, on what, and the command that prints the whole policy."""
    answer: Any = {
        "Error": {"Code": "AccessDeniedException", "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": 403},
    }
    error = told_by_aws(ClientError(answer, "CreateFunction"), "create function cow")
    assert isinstance(error, DeniedError)
    assert said in str(error)
    assert "scar iam --operator" in str(error)
