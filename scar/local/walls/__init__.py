"""What AWS refuses and moto lets through: one file for each service, each a table of checks that run before moto sees the request.

Without these a deployment that passes here would fail on AWS. The numbers come from scar.limits. Not here, because their owners
refuse them: payloads of invocations and images that the registry does not hold (scar.local.functions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from scar.local.address import Caller, S3Address
from scar.local.walls import apigateway, lambda_, logs, s3, s3_notifications

Environ = dict[str, Any]

_SERVICES: Final[dict[str, Callable[[Environ, bytes, Caller], None]]] = {
    "apigateway": apigateway.check,
    "awslambda": lambda_.check,
    "logs": logs.check,
}


def check(service: str, environ: Environ, content: bytes, who: Caller) -> None:
    """Raise RefusalError for what AWS's `service` (moto's name of it) would not accept."""
    if service in _SERVICES:
        _SERVICES[service](environ, content, who)


def check_s3(method: str, address: S3Address, environ: Environ) -> None:
    """The same for S3, from the head of the request alone."""
    s3.check(method, address, environ)


def check_s3_document(method: str, address: S3Address, environ: Environ, body: bytes) -> None:
    """The same for the XML of an S3 setting."""
    if method == "PUT" and not address.key and "notification" in address.query:
        s3_notifications.check(address.bucket, environ, body)
