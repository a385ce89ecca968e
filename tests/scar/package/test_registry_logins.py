"""Names of images, and who we are to their registries."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scar.errors import DeniedError, ScarError, UsageError
from scar.package.registry.credentials import Credentials, docker_keychain
from scar.package.registry.reference import parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("grycap/x:1", "docker.io/grycap/x:1"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:2", "localhost:5000/x:2"),
        ("quay.io/a/b/c", "quay.io/a/b/c:latest"),
        (f"quay.io/a/b:tag@{DIGEST}", f"quay.io/a/b@{DIGEST}"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/x", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/x:latest"),
    ],
)
def test_names_are_read_as_docker_reads_them(name: str, expected: str) -> None:
    assert str(parse(name)) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        "UPPER",
        "a//b",
        "../x",
        "a/../b",
        "x:",
        "x:a b",
        "x@sha256:1",
        "x@md5:" + "a" * 32,
        "host.io/",
        "a b",
        "x?y",
        "-x",
    ],
)
def test_names_that_break_the_rules_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        parse(name)


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "config.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def basic(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_what_docker_login_wrote_is_used(tmp_path: Path) -> None:
    auths = {
        "https://index.docker.io/v1/": basic("hub", "p:w"),
        "quay.io": basic("q", "w"),
        "ghcr.io": {"username": "u", "password": "p"},
        "azure.io": {"auth": "", "identitytoken": "refresh"},
    }
    find = docker_keychain(written(tmp_path, {"auths": auths}))
    assert find("docker.io") == Credentials("hub", "p:w")
    assert find("quay.io") == Credentials("q", "w")
    assert find("ghcr.io") == Credentials("u", "p")
    assert find("azure.io") == Credentials(None, "refresh")
    assert find("other.io") is None


def test_without_a_config_file_we_are_nobody(tmp_path: Path) -> None:
    assert docker_keychain(tmp_path / "none.json")("docker.io") is None


@pytest.mark.parametrize(
    "document",
    ["{", "[]", {"auths": ["x"]}, {"auths": {"quay.io": {"auth": "%%%"}}}, {"credHelpers": {"quay.io": "../x"}}],
)
def test_a_config_file_that_is_wrong_is_an_error_that_names_the_matter(tmp_path: Path, document: object) -> None:
    with pytest.raises(ScarError):
        docker_keychain(written(tmp_path, document))("quay.io")


def test_a_password_is_never_shown() -> None:
    assert "hush" not in repr(Credentials("me", "hush"))


HELPER = """#!/bin/sh
read -r server
case "$1 $server" in
    "get quay.io") echo '{"ServerURL":"quay.io","Username":"helped","Secret":"s"}' ;;
    "get token.io") echo '{"Username":"<token>","Secret":"refresh"}' ;;
    "get strange.io") echo 'hello' ;;
    "get broken.io") echo 'the vault is locked' >&2; exit 1 ;;
    *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


def ask_with_helper(tmp_path: Path, document: object, host: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, because helpers are looked up on its PATH."""
    helper = tmp_path / "bin" / "docker-credential-test"
    helper.parent.mkdir(exist_ok=True)
    helper.write_text(HELPER)
    helper.chmod(0o755)
    program = (
        "import sys; from pathlib import Path; from scar.package.registry.credentials import docker_keychain;"
        "found = docker_keychain(Path(sys.argv[1]))(sys.argv[2]); print(found and (found.user, found.secret))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(written(tmp_path, document)), host],
        env={"PATH": f"{helper.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("host", "expected"), [("quay.io", "('helped', 's')"), ("token.io", "(None, 'refresh')"), ("none.io", "None")]
)
def test_a_credential_helper_is_asked(tmp_path: Path, host: str, expected: str) -> None:
    for document in ({"credsStore": "test"}, {"credHelpers": {host: "test"}}):
        run = ask_with_helper(tmp_path, document, host)
        assert run.stdout.strip() == expected, run.stderr


@pytest.mark.parametrize(
    ("host", "reason"), [("broken.io", "the vault is locked"), ("strange.io", "gave no credentials")]
)
def test_a_credential_helper_that_fails_is_a_denial(tmp_path: Path, host: str, reason: str) -> None:
    run = ask_with_helper(tmp_path, {"credsStore": "test"}, host)
    assert "DeniedError" in run.stderr
    assert reason in run.stderr


def test_a_credential_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeniedError, match="docker-credential-nonesuch"):
        docker_keychain(written(tmp_path, {"credsStore": "nonesuch"}))("quay.io")
