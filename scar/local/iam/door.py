"""The door of a local AWS that enforces IAM: every request is authenticated and authorised before any service sees it.

Without `--iam` nobody stands here. What the services do among themselves on behalf of a role (ECS pulls an image, Lambda writes a log) comes
through `Authority`, which the engines ask.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from typing import Any, Final, NoReturn
from urllib.parse import parse_qs

from scar.local.address import Caller, Environ, S3Address, is_s3, s3_address
from scar.local.iam import principals, signature
from scar.local.iam.actions import asked_of
from scar.local.iam.authority import Authority, context_of, sentence
from scar.local.iam.evaluate import ANONYMOUS, Asked, Principal
from scar.local.iam.on_behalf import refusal_of_function_image
from scar.local.iam.registry_plane import asked_of_registry
from scar.local.iam.request import Request, operation_of
from scar.local.refusal import RefusalError

_BODY_BYTES: Final = 128 * 1024 * 1024
_PARTITIONS: Final = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
_JSON: Final = frozenset(
    {"logs", "ecr", "events", "ssm", "tagging", "dynamodb", "secretsmanager", "kms", "sqs", "states", "ecs"}
)


class Door:
    """`registry_key` tells whose token a request to the registry comes with: an access key, and the region that the token is for."""

    def __init__(self, authority: Authority, registry_key: Callable[[Environ], tuple[str, str] | None]) -> None:
        self.authority, self._registry_key = authority, registry_key

    def check(self, environ: Environ, who: Caller) -> None:
        """Raises RefusalError for whoever may not. The body of a request that is not an object is read, and put back."""
        path = str(environ.get("PATH_INFO", ""))
        if who.service is None and (path == "/v2" or path.startswith("/v2/")):
            self._check_registry(environ)
            return
        s3 = is_s3(environ, who.service)
        service = "s3" if s3 else who.service or ""
        wire = _wire(environ, with_body=not s3 or _has_document(environ))
        principal = _authenticated(wire, service, who.region or "us-east-1")
        request = _request(environ, wire, principal, service, who.region or "us-east-1")
        for asked in asked_of(request, wire.body or b""):
            self._demand(principal, asked, request)
        if service == "lambda":
            self._check_function_image(request)
        if s3 and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            self._hide_absence(principal, s3_address(environ), request)

    def _demand(self, principal: Principal, asked: Asked, request: Request) -> None:
        context = {**context_of(principal), **_context_from(request), **asked.context}
        decision = self.authority.decide(principal, Asked(asked.action, asked.resource, context))
        if not decision.allowed:
            _deny(request.service, sentence(principal, asked.action, asked.resource, decision))

    def _check_function_image(self, request: Request) -> None:
        """Lambda pulls the image of a function itself."""
        code = request.parameters.get("Code") if request.operation == "CreateFunction" else request.parameters
        image = code.get("ImageUri") if isinstance(code, dict) else None
        if request.operation not in ("CreateFunction", "UpdateFunctionCode") or not isinstance(image, str):
            return
        function = request.arn(f"function:{request.text('FunctionName').rpartition(':')[2]}")
        if refusal := refusal_of_function_image(self.authority, image, function):
            _deny("lambda", refusal)

    def _hide_absence(self, principal: Principal, address: S3Address, request: Request) -> None:
        """Whoever may not list a bucket is not told that a key is absent. AmazonS3/latest/API/API_GetObject"""
        if not address.key or _is_there(address, request.account):
            return
        bucket = f"arn:{request.partition}:s3:::{address.bucket}"
        self._demand(principal, Asked("s3:ListBucket", bucket), request)

    def _check_registry(self, environ: Environ) -> None:
        """Requests without a token (which the registry answers with 401) and signed download addresses are the registry's own business."""
        token = self._registry_key(environ)
        if token is None:
            if "HTTP_AUTHORIZATION" in environ:
                raise RefusalError(403, "DENIED", "Your authorization token is not of ecr:GetAuthorizationToken.")
            return
        key, region = token
        found = principals.known(key, _partition(region))
        principal = found.principal if found else ANONYMOUS
        for asked in asked_of_registry(environ["REQUEST_METHOD"], str(environ["PATH_INFO"]), principal.account, region):
            decision = self.authority.decide(principal, Asked(asked.action, asked.resource, context_of(principal)))
            if not decision.allowed:
                raise RefusalError(403, "DENIED", sentence(principal, asked.action, asked.resource, decision))


def _wire(environ: Environ, *, with_body: bool) -> signature.Wire:
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value != "")
    }
    raw_path, _, raw_query = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "").partition("?")
    if "://" in raw_path:
        raw_path = "/" + raw_path.split("://", 1)[1].partition("/")[2]
    return signature.Wire(
        environ["REQUEST_METHOD"], raw_path, raw_query, headers, _body(environ) if with_body else None
    )


def _body(environ: Environ) -> bytes:
    length = environ.get("CONTENT_LENGTH") or "0"
    if int(length) > _BODY_BYTES:
        raise RefusalError(413, "RequestEntityTooLargeException", f"The request is above {_BODY_BYTES} bytes.")
    body: bytes = environ["wsgi.input"].read()
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _has_document(environ: Environ) -> bool:
    """Whether an S3 request names in its body what it is about: DeleteObjects."""
    return environ["REQUEST_METHOD"] == "POST" and "delete" in parse_qs(
        environ.get("QUERY_STRING", ""), keep_blank_values=True
    )


def _authenticated(wire: signature.Wire, service: str, region: str) -> Principal:
    signed = signature.read(wire)
    if signed is None:
        if service == "s3" and "authorization" not in wire.headers:
            return ANONYMOUS
        _turn_away(service, "MissingAuthenticationToken", "Request is missing Authentication Token")
    found = principals.known(signed.key, _partition(region))
    if found is None:
        _turn_away(service, _unknown_key(service), "The security token included in the request is invalid.")
    if found.token is not None and found.token != signed.token:
        _turn_away(
            service,
            "InvalidToken" if service == "s3" else _unknown_key(service),
            "The security token included in the request is invalid.",
        )
    if not signature.fits(signed, wire, found.secret):
        code = (
            "InvalidSignatureException"
            if service in _JSON or service in ("lambda", "batch", "apigateway")
            else "SignatureDoesNotMatch"
        )
        _turn_away(
            service,
            code,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
        )
    if signature.is_over(signed, datetime.datetime.now(datetime.UTC)):
        _deny(service, "Request has expired")
    return found.principal


def _unknown_key(service: str) -> str:
    if service == "s3":
        return "InvalidAccessKeyId"
    return (
        "UnrecognizedClientException"
        if service in _JSON or service in ("lambda", "batch", "apigateway")
        else "InvalidClientTokenId"
    )


def _turn_away(service: str, code: str, message: str) -> NoReturn:
    raise RefusalError(400 if service in _JSON else 403, code, message)


def _deny(service: str, message: str) -> NoReturn:
    """403 and AccessDenied, in the words and with the status of each protocol."""
    if service == "ec2":
        raise RefusalError(403, "UnauthorizedOperation", f"You are not authorized to perform this operation. {message}")
    if service in _JSON:
        raise RefusalError(400, "AccessDeniedException", message)
    code = (
        "AccessDeniedException"
        if service in ("lambda", "batch", "apigateway", "scheduler", "elasticfilesystem")
        else "AccessDenied"
    )
    raise RefusalError(403, code, message)


def _request(environ: Environ, wire: signature.Wire, principal: Principal, service: str, region: str) -> Request:
    query = parse_qs(wire.raw_query, keep_blank_values=True)
    path = str(environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "replace")
    operation: str = ""
    parameters: dict[str, Any] = {}
    if service == "s3":
        address = s3_address(environ)
        path = f"/{address.bucket}/{address.key}" if address.key else f"/{address.bucket}"
    else:
        operation, parameters = operation_of(
            service, wire.method, wire.raw_path, query=query, headers=wire.headers, body=wire.body or b""
        )
    account = principal.account or principals.ACCOUNT
    return Request(
        service, region, account, _partition(region), wire.method, path, query, wire.headers, operation, parameters
    )


def _partition(region: str) -> str:
    return next((name for start, name in _PARTITIONS.items() if region.startswith(f"{start}-")), "aws")


def _context_from(request: Request) -> dict[str, tuple[str, ...]]:
    return {
        "aws:sourceip": ("127.0.0.1",),
        "aws:requestedregion": (request.region,),
        **({"aws:useragent": (request.headers["user-agent"],)} if "user-agent" in request.headers else {}),
    }


def _is_there(address: S3Address, account: str) -> bool:
    """Whether S3 has the bucket's key; True for a bucket that is not there, which S3 itself tells."""
    from moto.s3.models import s3_backends

    where = s3_backends.bucket_accounts.get(address.bucket)
    if where is None:
        return True
    partition, owner = where
    bucket = s3_backends[owner][partition].buckets.get(address.bucket)
    return bucket is None or address.key in bucket.keys
