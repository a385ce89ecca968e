"""What are a job's secrets? Values of Secrets Manager and of Systems Manager's parameters, as variables of its environment.

Source: AmazonECS/latest/developerguide/secrets-envvar-secrets-manager and secrets-envvar-ssm-paramstore
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


class NoSecretError(Exception):
    """A secret that cannot be had, in ECS's words; its value is in no message."""


def secret_values(
    container: Mapping[str, Any], account: str, region: str, wake: Callable[[str], None]
) -> dict[str, str]:
    """`wake` is told before a service of moto's is asked. Raises NoSecretError."""
    entries = container.get("secrets") or ()
    if entries:
        wake("secretsmanager")
        wake("ssm")
    return {entry["name"]: _value(str(entry["valueFrom"]), account, region) for entry in entries}


def _value(source: str, account: str, region: str) -> str:
    parts = source.split(":")
    try:
        if source.startswith("arn:") and parts[2] == "secretsmanager":
            return _secret(parts, account)
        if source.startswith("arn:"):
            return _parameter(source.partition(":parameter")[2], account, parts[3])
        return _parameter(source, account, region)
    except Exception as error:  # a door: moto raises whatever its backends raise
        raise NoSecretError(
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
            f"unable to retrieve secret {source}: {type(error).__name__}"
        ) from error


def _secret(parts: list[str], account: str) -> str:
    """arn:aws:secretsmanager:region:account:secret:name[:json key:version stage:version id]"""
    from moto.secretsmanager.models import secretsmanager_backends

    name, key, stage, version = (*parts[6:10], "", "", "")[:4] if len(parts) > 6 else ("", "", "", "")
    found = secretsmanager_backends[account][parts[3]].get_secret_value(
        ":".join([*parts[:6], name]), version or None, stage or None
    )
    text = str(found["SecretString"])
    return str(json.loads(text)[key]) if key else text


def _parameter(name: str, account: str, region: str) -> str:
    from moto.ssm.models import ssm_backends

    found = ssm_backends[account][region].get_parameter(name)
    if found is None:
        raise LookupError(name)
    return str(found.response_object(True)["Value"])
