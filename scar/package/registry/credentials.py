"""Who we are to a registry: what `docker login` wrote, or what a credential helper answers."""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scar.errors import DeniedError, ScarError
from scar.package.registry.reference import DOCKER_HUB

_HELPER_SECONDS: Final = 60
_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", DOCKER_HUB, "registry-1.docker.io")
_TOKEN_USER: Final = "<token>"  # noqa: S105 — docker's word for "the secret is an identity token"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password; or, with `user` None, an identity token that the token server takes for a password.

    `endpoint` is where the registry answers, when whoever gave the credentials said so; None: at `https://host`.
    """

    user: str | None
    secret: str = field(repr=False)
    endpoint: str | None = None

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user or ''}:{self.secret}".encode()).decode()


Keychain = Callable[[str], Credentials | None]
"""Answers who we are to a registry's host, None: nobody."""


def anonymous(host: str) -> Credentials | None:
    """A Keychain that knows nothing."""
    return None


def docker_keychain(config_file: Path) -> Keychain:
    """What `docker login` knows: `auths`, `credHelpers` and `credsStore` of its config file, which may be absent."""

    def find(host: str) -> Credentials | None:
        document = _load(config_file)
        names = _HUB_KEYS if host == DOCKER_HUB else (host, f"https://{host}", f"http://{host}", f"https://{host}/v2/")
        helpers = _object(document, "credHelpers", config_file)
        for name in names:
            if name in helpers:
                return _ask_helper(helpers[name], name)
        auths = _object(document, "auths", config_file)
        for name in names:
            entry = auths.get(name)
            if isinstance(entry, dict) and (found := _from_entry(entry, f"{config_file}: {name}")) is not None:
                return found
        if store := document.get("credsStore"):
            return _ask_helper(store, names[0])
        return None

    return find


def login_files(paths: Sequence[Path]) -> Keychain:
    """The first of several such files that knows a registry answers: Docker's `config.json`, podman's `auth.json`."""
    keychains = [docker_keychain(path) for path in paths]

    def find(host: str) -> Credentials | None:
        return next((found for keychain in keychains if (found := keychain(host)) is not None), None)

    return find


def _load(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ScarError(f"Docker's configuration cannot be read: {error}", where=str(path)) from error
    if not isinstance(document, dict):
        raise ScarError("Docker's configuration is not a JSON object", where=str(path))
    return document


def _object(document: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise ScarError(f"`{key}` is not an object", where=str(path))
    return value


def _from_entry(entry: Mapping[str, Any], where: str) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials(None, str(token))
    if encoded := entry.get("auth"):
        try:
            user, colon, secret = base64.b64decode(str(encoded), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = user = secret = ""
        if not colon:
            raise ScarError(
                "`auth` is not the Base64 form of user:password", where=where, fix="Run `docker login` again."
            )
        return Credentials(user, secret)
    if "username" in entry and "password" in entry:
        return Credentials(str(entry["username"]), str(entry["password"]))
    return None


def _ask_helper(name: object, server: str) -> Credentials | None:
    """Run `docker-credential-NAME get`, as Docker does. A helper that knows nothing of the server answers None."""
    if not isinstance(name, str) or not _HELPER_NAME.fullmatch(name):
        raise ScarError(f"{name!r} is not the name of a credential helper", fix="Correct ~/.docker/config.json.")
    program = f"docker-credential-{name}"
    try:
        answer = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise DeniedError(
            f"the credential helper {program}, which Docker's configuration names for {server}, is not on PATH",
            fix="Install it, or remove it from ~/.docker/config.json.",
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeniedError(f"the credential helper {program} did not answer: {error}") from error
    if answer.returncode != 0:
        said = (answer.stdout or answer.stderr).decode(errors="replace").strip()
        if "not found" in said.lower():
            return None
        raise DeniedError(f"the credential helper {program} failed for {server}: {said[:200]}")
    try:
        document = json.loads(answer.stdout)
        user, secret = str(document["Username"]), str(document["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise DeniedError(f"the credential helper {program} gave no credentials for {server}") from error
    return Credentials(None if user == _TOKEN_USER else user, secret)
