"""Logging in to one registry: Basic, or tokens for each scope; anew when they have run out.

Where a password may go, and where not: to the registry's own origin and the token server that the registry names, over
https (plain http on this machine only), in headers and forms, never in an address.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit

from scar.errors import DeniedError, ServiceError
from scar.package.registry.credentials import Credentials

_TOKEN_SPARE_S: Final = 10.0
_TOKEN_S: Final = 60.0  # where the server does not say: distribution's token specification
_BEARER: Final = re.compile(r"\bBearer\s+(.*)", re.IGNORECASE)
_BASIC: Final = re.compile(r"\bBasic\b", re.IGNORECASE)
_CHALLENGE_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')

Renew = Callable[[], Credentials | None]
"""Asked for new credentials when the registry does not take the old ones any more."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What a token server said: `body` is a document where `status` is 200, and its complaint otherwise."""

    status: int
    body: bytes


class AskTokenServer(Protocol):
    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: str | None, /) -> TokenAnswer:
        """Raises CutError where the same question may be answered later; never follows a redirect."""
        ...


@dataclass(frozen=True, slots=True)
class _Pass:
    header: str
    expires: float


class Login:
    """For any number of threads; one of them logs in, the others wait for it."""

    def __init__(
        self,
        host: str,
        credentials: Credentials | None,
        *,
        ask: AskTokenServer,
        clock: Callable[[], float],
        renew: Renew | None = None,
    ) -> None:
        self._host, self._credentials, self._renew = host, credentials, renew
        self._ask, self._clock = ask, clock
        self._passes: dict[str, _Pass] = {}
        self._challenges: dict[str, Mapping[str, str]] = {}
        self._usual: Mapping[str, str] | None = None
        self._lock = threading.Lock()

    def header(self, scope: str) -> str | None:
        """An Authorization that holds now; None before the registry has asked for any.

        A token that has run out is replaced here, so that no upload is begun with one that will be refused.
        """
        with self._lock:
            known, challenge = self._known(scope), self._challenges.get(scope) or self._usual
            if known is None and challenge is not None:
                known = self._passes[scope] = self._token(challenge, scope)
            return known.header if known else None

    def heard(self, challenge: str) -> None:
        """What the registry asks of everybody, told before anything is asked of it: no request has to be refused first."""
        bearer = _BEARER.search(challenge)
        with self._lock:
            if bearer is not None:
                self._usual = dict(_CHALLENGE_PARAMETER.findall(bearer[1]))
            elif _BASIC.search(challenge) and self._credentials is not None:
                self._passes[""] = _Pass(self._credentials.basic, float("inf"))

    def answer(self, challenge: str, scope: str, refused: str | None) -> None:
        """Log in as a 401 asks; `refused` is the header that it was the answer to. Raises DeniedError."""
        bearer = _BEARER.search(challenge)
        with self._lock:
            known = self._known(scope)
            if known is not None and known.header != refused:
                return  # another thread has just logged in
            if bearer is not None:
                self._challenges[scope] = dict(_CHALLENGE_PARAMETER.findall(bearer[1]))
                self._passes[scope] = self._token(self._challenges[scope], scope)
            elif _BASIC.search(challenge):
                self._log_in_plainly(refused)
            else:
                raise self.denied(f"it asks for {challenge.partition(' ')[0] or 'nothing'!r}, which is not known here")

    def expired(self, scope: str, refused: str) -> None:
        """The registry said in words, not by a 401, that `refused` does not hold any more. Raises DeniedError."""
        with self._lock:
            known = self._known(scope)
            if known is not None and known.header != refused:
                return
            challenge = self._challenges.get(scope) or self._usual
            if challenge is not None:
                self._passes[scope] = self._token(challenge, scope)
            else:
                self._log_in_plainly(refused)

    def denied(self, why: str) -> DeniedError:
        who = (
            f" as {self._credentials.user or 'the holder of a token'}" if self._credentials else " without credentials"
        )
        return DeniedError(
            f"the registry {self._host} refuses us{who}: {why}",
            fix=f"Run `docker login {self._host}`, or check the image's name.",
        )

    def _known(self, scope: str) -> _Pass | None:
        known = self._passes.get(scope) or self._passes.get("")
        return known if known is not None and known.expires > self._clock() else None

    def _log_in_plainly(self, refused: str | None) -> None:
        """Basic, for every scope from now on."""
        if refused is not None and not self._has_renewed():
            raise self.denied(
                "its credentials are not taken" if self._credentials else "it wants a user and a password"
            )
        if self._credentials is None:
            raise self.denied("it wants a user and a password")
        self._passes[""] = _Pass(self._credentials.basic, float("inf"))

    def _has_renewed(self) -> bool:
        renewed = self._renew() if self._renew else None
        if renewed is None or renewed == self._credentials:
            return False
        self._credentials = renewed
        return True

    def _token(self, challenge: Mapping[str, str], scope: str) -> _Pass:
        answer = self._asked(challenge, scope)
        if answer.status in (400, 401, 403) and self._has_renewed():
            answer = self._asked(challenge, scope)
        server = urlsplit(challenge.get("realm", "")).netloc
        if answer.status in (400, 401, 403):
            said = answer.body.decode(errors="replace")
            raise self.denied(f"its token server answered {answer.status}{said}")
        try:
            document = json.loads(answer.body)
            token = document.get("token") or document["access_token"]
            lifetime_s = float(document.get("expires_in") or _TOKEN_S)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceError(f"the token server {server} gave no token") from error
        return _Pass(f"Bearer {token}", self._clock() + max(lifetime_s - _TOKEN_SPARE_S, lifetime_s / 2))

    def _asked(self, challenge: Mapping[str, str], scope: str) -> TokenAnswer:
        realm, service, credentials = challenge.get("realm", ""), challenge.get("service", ""), self._credentials
        if credentials is not None and credentials.user is None:
            form = {"grant_type": "refresh_token", "service": service, "client_id": "scar", "scope": scope}
            body = urlencode({**form, "refresh_token": credentials.secret})
            return self._ask("POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, body)
        query = urlencode([("service", service), *(("scope", item) for item in scope.split())])
        headers = {"Authorization": credentials.basic} if credentials is not None else {}
        return self._ask("GET", realm + ("&" if "?" in realm else "?") + query, headers, None)
