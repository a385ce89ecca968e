"""What AWS refuses and moto lets through: one file for each service, each a list of checks that run before moto sees the request.

Without these a deployment that passes here would fail on AWS. The numbers come from scar.limits.
"""

from __future__ import annotations

from typing import Any

from scar.local.address import Caller, S3Address
from scar.local.walls import s3

Environ = dict[str, Any]


def check(service: str, environ: Environ, content: bytes, who: Caller) -> None:
    """Raise Refusal for what AWS's `service` would not accept."""


def check_s3(method: str, address: S3Address, environ: Environ) -> None:
    """The same for S3, from the head of the request alone."""
    s3.check(method, address, environ)


def check_s3_document(method: str, address: S3Address, body: bytes) -> None:
    """The same for the XML of an S3 setting."""
