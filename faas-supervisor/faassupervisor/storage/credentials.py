"""What a storage provider is asked with: a JSON object of strings in an SSM parameter, read when it is first needed.

It is kept in this process's memory, for a while, and nowhere else: neither the spec nor the environment nor the image holds it.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from faassupervisor import signed
from faassupervisor.aws import Aws
from faassupervisor.contract import Provider
from faassupervisor.deadline import Deadline
from faassupervisor.storage import ProviderError

KEPT_S: Final = 300.0  # then a changed parameter is seen by a sandbox that lives on
_HEADERS: Final = {"X-Amz-Target": "AmazonSSM.GetParameter", "Content-Type": "application/x-amz-json-1.1"}
# Source: systems-manager/latest/APIReference/API_GetParameter, and what KMS adds to it
_REASONS: Final = {
    "ParameterNotFound": "it does not exist",
    "ParameterVersionNotFound": "it does not exist",
    "AccessDeniedException": "access denied; the function's role needs ssm:GetParameter on it, and kms:Decrypt when it is encrypted with a key of your own",
}


class CredentialsError(ProviderError):
    """The credentials of a provider cannot be had. Its text is a sentence that names the provider and the parameter."""


class Credentials:
    """The credentials of one provider, by name. `needed` are those that must be there."""

    def __init__(
        self, aws: Aws, provider: Provider, needed: tuple[str, ...], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._aws, self._provider, self._needed, self._clock = aws, provider, needed, clock
        self._values: Mapping[str, str] = {}
        self._until = 0.0

    def read(self, deadline: Deadline) -> Mapping[str, str]:
        """Raises CredentialsError. What is answered is the same object for as long as it is the same credentials."""
        if not self._values or self._clock() >= self._until:
            values = self._ask(deadline)
            if values != self._values:
                self._values = values
            self._until = self._clock() + KEPT_S
        return self._values

    def hide(self, text: str) -> str:
        """`text`, which a server may have had a hand in, without anything that was secret."""
        values = [value for value in self._values.values() if value]
        login, password = self._values.get("login", ""), self._values.get("password", "")
        basic = base64.b64encode(f"{login}:{password}".encode()).decode()
        for secret in sorted([*values, *([basic] if password else [])], key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _ask(self, deadline: Deadline) -> Mapping[str, str]:
        request = json.dumps({"Name": self._provider.secret, "WithDecryption": True}).encode()
        try:
            answer = signed.call(self._aws, "ssm", headers=_HEADERS, body=request, deadline=deadline)
        except signed.CallError as error:
            raise CredentialsError(f"{self._where} could not be read: {error}") from error
        if not answer.ok:
            reason = _REASONS.get(answer.code) or f"{answer.code or 'status'} {answer.status}"
            raise CredentialsError(f"{self._where} cannot be read: {reason}")
        try:
            values = json.loads(json.loads(answer.body)["Parameter"]["Value"])
        except (ValueError, KeyError, TypeError):
            # Not `from`: what json says of a document may quote it.
            raise CredentialsError(f"{self._where} hold no JSON object") from None
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise CredentialsError(f"{self._where} hold no JSON object of strings")
        if missing := [name for name in self._needed if not values.get(name)]:
            raise CredentialsError(f"{self._where} lack {' and '.join(missing)}")
        return values

    @property
    def _where(self) -> str:
        return f"the credentials of {self._provider.name} (SSM parameter {self._provider.secret})"
