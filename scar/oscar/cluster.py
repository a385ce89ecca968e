"""One OSCAR cluster, by its REST API: the services that it has, made, changed and removed.

Source: github.com/grycap/oscar, pkg/handlers and pkg/types/service.go (POST 201, PUT 204, DELETE 204, 409 for a name that is taken).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import requests
from requests.auth import AuthBase
from urllib3.exceptions import InsecureRequestWarning

from scar.errors import ConflictError, DeniedError, NotFoundError, ScarError, ServiceError, UsageError

_PATIENCE_S: Final = (10.0, 120.0)  # to connect, and for an answer: making a service makes its buckets, too
_TOLD_CHARS: Final = 400
_SERVICES: Final = "/system/services"
_KINDS: Final[Mapping[int, type[ScarError]]] = {
    400: UsageError,
    401: DeniedError,
    403: DeniedError,
    404: NotFoundError,
    409: ConflictError,
}
_FIXES: Final = {
    401: "Look at `auth_user` and `auth_password`.",
    403: "Look at what this user may do in the cluster.",
    404: "Look at `endpoint`: is it the cluster's?",
}


class _Nobody(AuthBase):
    """No password: not even one that a ~/.netrc has for the host."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where it is and who asks. `hidden` are texts that no message repeats, whatever the cluster says."""

    name: str
    endpoint: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    verify: bool = True
    hidden: tuple[str, ...] = field(default=(), repr=False)

    def services(self) -> tuple[Mapping[str, Any], ...]:
        """Every service that the user may see."""
        found = self._document(self._ask("GET", _SERVICES, (200,)))
        if not isinstance(found, list):
            raise ServiceError(f"{self._shown} answers something that is no list of services")
        return tuple(each for each in found if isinstance(each, dict))

    def service(self, name: str) -> Mapping[str, Any] | None:
        """One service, None when there is none of that name."""
        answer = self._ask("GET", f"{_SERVICES}/{quote(name, safe='')}", (200, 404))
        if answer.status_code == 404:
            return None
        found = self._document(answer)
        if not isinstance(found, dict):
            raise ServiceError(f"{self._shown} answers something that is no service")
        return found

    def put(self, document: Mapping[str, Any]) -> None:
        """Make the service what `document` says, whether it is there or not: who comes second changes what the first has made."""
        answer = self._ask("POST", _SERVICES, (200, 201, 409), document)
        if answer.status_code == 409:
            self.change(document)

    def change(self, document: Mapping[str, Any]) -> None:
        self._ask("PUT", _SERVICES, (200, 204), document)

    def remove(self, name: str) -> bool:
        """Whether it was there."""
        return self._ask("DELETE", f"{_SERVICES}/{quote(name, safe='')}", (200, 204, 404)).status_code != 404

    @property
    def _shown(self) -> str:
        return f"OSCAR cluster {self.name} ({self.endpoint})"

    def _ask(
        self, method: str, path: str, expected: Iterable[int], document: Mapping[str, Any] | None = None
    ) -> requests.Response:
        auth = (self.user, self.password) if self.user is not None and self.password is not None else _Nobody()
        try:
            with warnings.catch_warnings():
                if not self.verify:  # said when the definition was read
                    warnings.simplefilter("ignore", InsecureRequestWarning)
                answer = requests.request(
                    method,
                    self.endpoint.rstrip("/") + path,
                    json=document,
                    auth=auth,
                    verify=None if self.verify else False,  # None: what REQUESTS_CA_BUNDLE names, or certifi's
                    timeout=_PATIENCE_S,
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            # Not `from`: the chain holds the request, and the request the password.
            raise ServiceError(
                self._hide(f"{self._shown} cannot be reached: {_reason(error)}"),
                fix="Look at `endpoint`, and whether the cluster is up.",
            ) from None
        if answer.status_code in expected:
            return answer
        said = _one_line(answer.text)
        what = f"{self._shown} answers {method} {path} with {answer.status_code}" + (f": {said}" if said else "")
        if answer.is_redirect:
            what += ", which sends us to another address: that is not followed with a password"
        kind = _KINDS.get(answer.status_code, ServiceError)
        raise kind(self._hide(what), fix=_FIXES.get(answer.status_code))

    def _document(self, answer: requests.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise ServiceError(f"{self._shown} answers something that is no JSON") from None

    def _hide(self, text: str) -> str:
        for secret in sorted({*self.hidden, self.password or ""} - {""}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def _reason(error: requests.RequestException) -> str:
    match error:
        case requests.exceptions.SSLError():
            return f"its certificate is not to be trusted: {_one_line(str(error))}"
        case requests.Timeout():
            return "no answer came in time"
        case _:
            return _one_line(str(error))


def _one_line(text: str) -> str:
    """What somebody else says, as it may stand in a message: printable, on one line, not endless."""
    shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return shown if len(shown) <= _TOLD_CHARS else f"{shown[:_TOLD_CHARS]}…"
