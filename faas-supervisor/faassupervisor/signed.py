"""One signed request to an AWS service, without the service's model: what a small call costs when botocore need not read megabytes for it.

The signature, the TLS store, the proxies and the pool of connections are botocore's. What the body means is the caller's business.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from faassupervisor.aws import Aws
from faassupervisor.deadline import Deadline

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import ReadOnlyCredentials

_CONNECT_S: Final = 3.0
_READ_S: Final = 10.0
_ATTEMPTS: Final = 3
_PAUSE_S: Final = 0.2  # before the second attempt; twice as long before each further one, less a random part
# Codes of answers that ask to come again. Source: general/latest/gr/api-retries, botocore/retries/standard.py
_THROTTLED: Final = frozenset(
    {
        "LimitExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


class CallError(OSError):
    """No answer came: the service could not be reached, or not in the time that there was. Names the service and the host, nothing else."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said, whatever its status. Names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The error's code in the protocols that are JSON, '' when there is none."""
        named = self.headers.get("x-amzn-errortype", "")
        if not named and not self.ok:
            import json

            try:
                document = json.loads(self.body)
            except ValueError:
                return ""
            named = str(document.get("__type", "")) if isinstance(document, dict) else ""
        return named.split(":", 1)[0].rsplit("#", 1)[-1]


def call(
    aws: Aws,
    service: str,
    *,
    method: str = "POST",
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    deadline: Deadline,
    attempts: int = _ATTEMPTS,
    read_s: float = _READ_S,
) -> Answer:
    """Send one request and answer what came back. Raises CallError when nothing did.

    `path` is percent-encoded already. An answer of 5xx or of throttling is asked for again, as is one that never came: with
    `attempts=1` nothing is ever sent twice.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    endpoint = aws.endpoint(service)
    last = "no time was left"
    for attempt in range(attempts):
        if attempt:
            pause_s = _PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311 (it spreads callers, no secret)
            time.sleep(min(pause_s, deadline.for_agent_s()))
        if deadline.for_agent_s() <= 0:
            break
        request = AWSRequest(method=method, url=endpoint + path, data=body, headers=dict(headers or {}))
        SigV4Auth(_credentials(aws, service), service, aws.region).add_auth(request)
        try:
            answer = _send(aws, endpoint, request, min(read_s, deadline.for_agent_s()))
        except CallError as error:
            last = str(error)
            continue
        if attempt + 1 == attempts or not _comes_again(answer):
            return answer
        last = f"it answered {answer.status} {answer.code}".rstrip()
    raise CallError(f"{service} at {endpoint} gave no answer: {last}")


def _credentials(aws: Aws, service: str) -> ReadOnlyCredentials:
    from botocore.exceptions import BotoCoreError

    try:
        return aws.credentials()
    except BotoCoreError as error:
        raise CallError(f"{service}: there are no credentials to ask with: {error}") from error


def _send(aws: Aws, endpoint: str, request: AWSRequest, read_s: float) -> Answer:
    from botocore.exceptions import BotoCoreError, HTTPClientError
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    patience: Any = (min(_CONNECT_S, read_s), read_s)  # a pair is what botocore itself hands over; its stubs say int
    trusted: Any = aws.certificates or True
    session = URLLib3Session(verify=trusted, proxies=get_environ_proxies(endpoint), timeout=patience)
    try:
        answer = session.send(request.prepare())
        content = answer.content
    except (BotoCoreError, HTTPClientError) as error:
        raise CallError(str(error)) from error
    finally:
        session.close()
    told = answer.headers.get("Content-Length")
    if told is not None and len(content) < int(told):  # botocore does not look
        raise CallError("the answer was cut on its way")
    return Answer(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, content)


def _comes_again(answer: Answer) -> bool:
    return answer.status >= 500 or answer.status == 429 or answer.code in _THROTTLED
