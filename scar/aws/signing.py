"""A request to a function's endpoint, signed for whom it is sent as: AWS's Signature Version 4, by botocore; or with the endpoint's API key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

from scar.aws import tags
from scar.aws.errors import mapped
from scar.errors import NotFoundError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.endpoints import Endpoint

API_KEY_HEADER = "x-api-key"


def signed(
    aws: Aws, endpoint: Endpoint, *, method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes]
) -> dict[str, str]:
    """The headers, with those that the endpoint asks for. A file is read once for its digest, and stands where it stood.

    The clock's time is in a signature: a request is signed right before it is sent.
    """
    match endpoint.auth:
        case "iam":
            return _by_credentials(aws, endpoint, method=method, url=url, headers=headers, body=body)
        case "api_key":
            return {**headers, API_KEY_HEADER: _api_key(aws, endpoint)}
        case _:
            return dict(headers)


def _by_credentials(
    aws: Aws, endpoint: Endpoint, *, method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes]
) -> dict[str, str]:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    with mapped(f"sign a request to {endpoint.function}"):
        request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
        SigV4Auth(aws.credentials(), endpoint.service, aws.region).add_auth(request)
    return dict(request.headers.items())


def _api_key(aws: Aws, endpoint: Endpoint) -> str:
    """Its value goes into the request and nowhere else."""
    with mapped(f"look up the API key of {endpoint.function}"):
        pages = aws.apigateway.get_paginator("get_api_keys").paginate(nameQuery=endpoint.key_name, includeValues=True)
        for page in pages:
            for key in page["items"]:
                if dict(key.get("tags") or {}).get(tags.FUNCTION) == endpoint.function and key["enabled"]:
                    return str(key["value"])
    raise NotFoundError(
        f"the API key {endpoint.key_name} is not there any more", fix="Make it anew: run `scar init` again."
    )
