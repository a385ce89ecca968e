"""Amazon's registry as a Registry: one call for a token, then the same protocol as everywhere.

What is peculiar to ECR is here: who may log in, what a pull-through cache does, and why bytes move that ECR could have linked.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from scar.aws.clients import Aws
from scar.errors import NotFoundError, ServiceError
from scar.limits import ECR_HOST_PATTERN
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials, Keychain
from scar.package.registry.network import Network, network_here
from scar.package.registry.reference import parse
from scar.package.source import docker_login
from scar.package.source.transports import named

if TYPE_CHECKING:
    from scar.package import oci
    from scar.package.registry.push import PushResult

_HOST: Final = re.compile(ECR_HOST_PATTERN)
_SPARE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class EcrHost:
    """Whose private registry a host's name means."""

    account: str
    region: str


def ecr_host(host: str) -> EcrHost | None:
    """None for a host that is not of a private ECR."""
    found = _HOST.fullmatch(host)
    return EcrHost(found["account"], found["region"] or found["dual"]) if found else None


def host_of(aws: Aws) -> str:
    """What image names of the account's own registry begin with."""
    suffix = "amazonaws.com.cn" if aws.partition == "aws-cn" else "amazonaws.com"
    return f"{aws.account}.dkr.ecr.{aws.region}.{suffix}"


def ecr_registry(aws: Aws, network: Network | None = None) -> Registry:
    """The account's private registry. Its token lives for 12 hours; a push that takes longer gets another.

    `network` is how it is reached; None: as the environment says.
    """
    ours = EcrHost(aws.account, aws.region)
    credentials = _token(aws, ours).credentials
    network = network or network_here()
    return Registry(
        host_of(aws),
        credentials,
        endpoint=credentials.endpoint,
        renew=lambda: _token(aws, ours).credentials,
        network=network,
    )


def ecr_keychain(aws: Aws, otherwise: Keychain | None = None) -> Keychain:
    """Who we are to private ECR: the account that the function is made in. To other hosts, what `otherwise` says (`docker login`).

    In the account's own ECR that is always so, because what `docker login` keeps of it ends after 12 hours. For another account's, what
    Docker has comes first: it may be of somebody whom that account lets in.
    """
    docker = otherwise or docker_login()
    tokens: dict[EcrHost, _Token] = {}

    def find(host: str) -> Credentials | None:
        ecr = ecr_host(host)
        if ecr is None:
            return docker(host)
        if ecr.account != aws.account and (known := docker(host)) is not None:
            return known
        if ecr not in tokens or tokens[ecr].until < datetime.now(UTC) + _SPARE:
            tokens[ecr] = _token(aws, ecr)
        return tokens[ecr].credentials

    return find


@dataclass(frozen=True, slots=True)
class _Token:
    credentials: Credentials
    until: datetime


def _token(aws: Aws, ecr: EcrHost) -> _Token:
    there = aws if ecr.region == aws.region else Aws(dataclasses.replace(aws.access, region=ecr.region), aws.clock)
    # `registryIds` is deprecated for AWS, whose token opens every registry that its owner may use, and means no harm there.
    whose: Mapping[str, Any] = {} if ecr.account == aws.account else {"registryIds": [ecr.account]}
    answer = there.ecr.get_authorization_token(**whose)
    try:
        data = answer["authorizationData"][0]
        endpoint, token, until = data["proxyEndpoint"], data["authorizationToken"], data["expiresAt"]
        user, _, password = base64.b64decode(token).decode().partition(":")
    except (LookupError, binascii.Error, UnicodeDecodeError) as error:
        raise ServiceError("ecr:GetAuthorizationToken answered without a usable token") from error
    return _Token(Credentials(user, password, endpoint.rstrip("/")), until)


@contextmanager
def absence_explained(aws: Aws, image: str | None) -> Iterator[None]:
    """Say more when `image` is not there and its repository belongs to a pull-through cache of the account's ECR.

    ECR itself fetches such an image from upstream when it is first asked for it, which can take longer than the question waits.
    """
    try:
        yield
    except NotFoundError as error:
        rule = None if image is None else _cache_rule(aws, image)
        if rule is None:
            raise
        prefix, upstream = rule
        raise NotFoundError(
            error.what,
            where=error.where,
            fix=f"By the pull-through cache rule `{prefix}` ECR fetches it from {upstream} when it is first asked for: run the command again in a minute. "
            f"If it stays away, see that {upstream} has the image, and that you may ecr:BatchImportUpstreamImage and ecr:CreateRepository.",
        ) from error


def _cache_rule(aws: Aws, image: str) -> tuple[str, str] | None:
    """The prefix and the upstream of the pull-through cache that an image of the account's ECR comes from; None for all others."""
    source = named(image, Path())
    if source.kind != "registry" or source.name == "scratch":
        return None
    name = parse(source.name)
    if ecr_host(name.host) != EcrHost(aws.account, aws.region):
        return None
    try:
        rules = aws.ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]
    except (ClientError, BotoCoreError):  # not ours to see: then the first error has to do
        return None
    for rule in rules:
        prefix = rule.get("ecrRepositoryPrefix", "").rstrip("/")
        if prefix == "ROOT" or name.repository.startswith(f"{prefix}/"):  # ROOT is ECR's word for every repository
            return prefix, rule.get("upstreamRegistryUrl", "its upstream")
    return None


def why_bytes_moved(aws: Aws, image: oci.Image, repository: str, result: PushResult) -> str | None:
    """One line for a push that sent blobs of an image in the same ECR, which ECR can link instead; None when there is nothing to say.

    Source: docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html (an account's setting; never for pull-through images).
    """
    host = host_of(aws)
    blobs = [image.config, *(layer.blob for layer in image.layers)]
    movable = [blob for blob in blobs if blob.host == host and blob.repository != repository]
    ours = len(image.manifest) + sum(blob.descriptor.size for blob in blobs if blob not in movable)
    if not movable or result.bytes_mounted or result.bytes_sent <= ours:
        return None
    try:
        mounting = aws.ecr.get_account_setting(name="BLOB_MOUNTING").get("value") == "ENABLED"
    except (ClientError, BotoCoreError):
        mounting = False
    mb = result.bytes_sent / 1_000_000
    if mounting:
        return (
            f"{mb:.1f} MB went through this machine: ECR links no layers of {movable[0].repository} "
            "(it never does for pull-through images, nor between repositories of different encryption)."
        )
    return (
        f"{mb:.1f} MB went through this machine, though both repositories are in the same ECR. It links layers after: "
        "aws ecr put-account-setting --name BLOB_MOUNTING --value ENABLED"
    )
