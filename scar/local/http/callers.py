"""Who calls an endpoint that is not open to everyone? Signatures are verified; with `--iam` the caller's policies count too.

Without `--iam` a key that IAM here has given to nobody is the account's own when its secret is the same word, as `local` is: the local AWS is
its owner's. With it, nobody knows that key.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Final

from scar.local.http.answers import Answer, error
from scar.local.http.events import Who
from scar.local.http.requests import Request
from scar.local.iam import principals, signature
from scar.local.iam.authority import Authority, sentence
from scar.local.iam.evaluate import ANONYMOUS, Asked, Principal

SKEW_S: Final = 300.0  # how far a signature's time may be from ours; source: IAM/latest/UserGuide/reference_sigv
_FORBIDDEN_URL: Final = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)


class TurnedAwayError(Exception):
    """The answer that the caller gets in place of the function's."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def signed_by(request: Request, service: str, region: str, *, enforced: bool) -> tuple[Who, Principal]:
    """Raises TurnedAwayError for a request that is not signed, or not by whom it says, or for something else."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        lower = name.lower()
        headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
    wire = signature.Wire(request.method, request.raw_path, request.raw_query, headers, request.body)
    signed = signature.read(wire)
    if signed is None:
        if "authorization" in headers:
            raise TurnedAwayError(
                error(
                    403,
                    "The Authorization header is none of AWS's Signature Version 4.",
                    "IncompleteSignatureException",
                )
            )
        raise TurnedAwayError(error(403, "Missing Authentication Token", "MissingAuthenticationTokenException"))
    date, signed_region, signed_service = signed.scope
    for what, is_, wanted in (("service", signed_service, service), ("region", signed_region, region)):
        if is_ != wanted:
            raise _bad_signature(f"Credential should be scoped to a valid {what}: '{wanted}', not '{is_}'.")
    if not signed.time.startswith(date) or _is_stale(signed.time) or signature.is_over(signed, _now()):
        raise _bad_signature(f"Signature expired or not yet current: {signed.time}")
    if "host" not in signed.signed_headers:
        raise _bad_signature("'Host' must be a signed header.")
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    known = principals.known(signed.key, partition)
    if known is None and not enforced:
        known = principals.Known(principals.root(partition), signed.key)
    if known is None or (known.token is not None and known.token != signed.token):
        raise TurnedAwayError(
            error(403, "The security token included in the request is invalid.", "UnrecognizedClientException")
        )
    if not signature.fits(signed, wire, known.secret):
        raise _bad_signature(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method."
        )
    who = known.principal
    name = who.arn.rpartition(":")[2].rpartition("/")[2]
    return Who(account=who.account, access_key=signed.key, arn=who.arn, user=name), who


def demand(authority: Authority, principal: Principal, action: str, resource: str, context: Mapping[str, str]) -> None:
    """Raises TurnedAwayError for who may not."""
    asked = Asked(action, resource, {key: (value,) for key, value in context.items()})
    decision = authority.decide(principal, asked)
    if not decision.allowed:
        text = sentence(principal, action, resource, decision)
        raise TurnedAwayError(error(403, text, "AccessDeniedException", key="Message"))


def demand_public_url(authority: Authority, function_arn: str) -> None:
    """A URL that is open to everyone needs two statements of the function's own policy. Raises TurnedAwayError."""
    wanted = (
        ("lambda:InvokeFunctionUrl", {"lambda:functionurlauthtype": ("NONE",)}),
        ("lambda:InvokeFunction", {"lambda:invokedviafunctionurl": ("true",)}),
    )
    if not all(authority.decide(ANONYMOUS, Asked(action, function_arn, context)).allowed for action, context in wanted):
        raise TurnedAwayError(error(403, _FORBIDDEN_URL, "AccessDeniedException", key="Message"))


def _bad_signature(message: str) -> TurnedAwayError:
    return TurnedAwayError(error(403, message, "InvalidSignatureException"))


def _is_stale(text: str) -> bool:
    try:
        made = datetime.datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        return True
    return abs((_now() - made).total_seconds()) > SKEW_S


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
