"""Storage that a function's role does not reach: where the credentials of it lie, and the leave to read them.

A definition's credentials go into one SSM parameter for each provider that the function uses, encrypted, and nowhere else: not into the
function's environment, its image, or what its agent is told. Where a definition names a parameter, that one is read and left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from scar.aws import names, tags
from scar.aws.resources.secret_parameter import SecretParameter
from scar.design.site import Site
from scar.errors import UsageError
from scar.fdl.model import Function
from scar.plan.resource import Id
from scar.secret import Secret

PARAMETER_BYTES: Final = (
    4096  # systems-manager/latest/userguide/parameter-store-advanced-parameters: the tier that costs nothing
)


def own_parameters(fn: Function) -> tuple[str, ...]:
    """Their names; see `parameters`."""
    return tuple(
        sorted(names.secret_parameter(fn.name, name) for name, each in fn.providers.items() if each.secret is None)
    )


def parameters(fn: Function, *, after: tuple[Id, ...]) -> Iterator[SecretParameter]:
    """One for each provider that is used and whose credentials the definition holds. Raises UsageError for more than fits."""
    for name, provider in fn.providers.items():
        if provider.secret is not None:
            continue
        value = json.dumps({key: secret.reveal() for key, secret in sorted(provider.credentials.items())})
        if len(value.encode()) > PARAMETER_BYTES:
            raise UsageError(
                f"the credentials of {name} have more than the {PARAMETER_BYTES} bytes of an SSM parameter",
                where=f"{fn.name}: storage_providers",
                fix="Put them into an advanced parameter of your own and name it: `secret: NAME`.",
            )
        yield SecretParameter(
            names.secret_parameter(fn.name, name),
            fn.name,
            Secret(value),
            tags.of_function(fn.name, fn.lambda_.tags),
            after=after,
        )


def statements(fn: Function, site: Site) -> Iterator[dict[str, Any]]:
    """What lets the function's code, in Lambda and in jobs, read those credentials and no others.

    What `aws/ssm` encrypts, KMS decrypts for everybody in the account who may read the parameter; a parameter of the user's own may be
    encrypted with another key, whose use is allowed for this parameter only, through SSM only.
    Sources: systems-manager/latest/userguide/ps-restrict-decryption, …/secure-string-parameter-kms-encryption (the encryption context).
    """
    arns = {name: _arn(site, names.credentials_of(fn.name, name, each.secret)) for name, each in fn.providers.items()}
    if not arns:
        return
    yield _allow("ReadCredentials", "ssm:GetParameter", sorted(set(arns.values())))
    given = sorted({arns[name] for name, each in fn.providers.items() if each.secret is not None})
    if given:
        service = f"ssm.{site.region}.amazonaws.com"
        through = [service, f"{service}.cn"] if site.partition == "aws-cn" else [service]
        decrypt = _allow("DecryptCredentials", "kms:Decrypt", [site.arn("kms", "key/*")])
        decrypt["Condition"] = {
            "StringEquals": {"kms:EncryptionContext:PARAMETER_ARN": given, "kms:ViaService": through}
        }
        yield decrypt


def _arn(site: Site, parameter: str) -> str:
    return site.arn("ssm", f"parameter/{parameter.lstrip('/')}")


def _allow(sid: str, action: str, resources: Iterable[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": [action], "Resource": list(resources)}
