"""Amazon's registry as a Registry: one call for a token, then the same protocol as everywhere."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from scar.aws.clients import Aws
from scar.errors import ServiceError
from scar.package.credentials import Credentials
from scar.package.registry import Registry


def ecr_registry(aws: Aws) -> Registry:
    """The account's private registry, for the 12 hours that its token lives (ecr:GetAuthorizationToken)."""
    answer = aws.ecr.get_authorization_token()
    try:
        data = answer["authorizationData"][0]
        endpoint, token = data["proxyEndpoint"], data["authorizationToken"]
        user, _, password = base64.b64decode(token).decode().partition(":")
    except (LookupError, binascii.Error, UnicodeDecodeError) as error:
        raise ServiceError("ecr:GetAuthorizationToken answered without a usable token") from error
    endpoint = endpoint.rstrip("/")
    return Registry(urlsplit(endpoint).netloc, Credentials(user, password), endpoint=endpoint)
