"""A base image in private ECR: read with the account's own credentials, and linked into the function's repository where ECR does that."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from scar.aws.clients import Aws
from scar.errors import DeniedError, NotFoundError
from scar.package import function_image, oci
from scar.package.agent import host_architecture
from scar.package.ecr import EcrHost, absence_explained, ecr_host, ecr_keychain, ecr_registry, why_bytes_moved
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials, anonymous, docker_keychain
from scar.package.registry.push import PushResult, push
from scar.package.source import open_image
from tests.local.functions.lambda_bench import REGION, Local, reset_moto
from tests.scar.package.ecr_bench import HOST, aws_of, definition, push_image, push_manifest
from tests.support.registries import RunningRegistry

BASE = f"{HOST}/base/tool:1"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with Local(tmp_path_factory.mktemp("aws")) as started:
        push_image(started, "base/tool", "1")
        yield started
    reset_moto()


@pytest.fixture(scope="module")
def aws(local: Local) -> Aws:
    return aws_of(local)


@pytest.mark.parametrize(
    ("host", "meaning"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", EcrHost("123456789012", "eu-west-1")),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", EcrHost("123456789012", "us-gov-west-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", EcrHost("123456789012", "cn-north-1")),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", EcrHost("123456789012", "eu-west-1")),
        ("public.ecr.aws", None),
        ("docker.io", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", None),
        ("x123456789012.dkr.ecr.eu-west-1.amazonaws.com", None),
        ("12345.dkr.ecr.eu-west-1.amazonaws.com", None),
    ],
)
def test_a_private_registry_is_known_by_its_host(host: str, meaning: EcrHost | None) -> None:
    assert ecr_host(host) == meaning


def opened(aws: Aws, image: str, cache: Path) -> oci.Image:
    return open_image(image, None, architecture=host_architecture(), cache=cache, keychain=ecr_keychain(aws, anonymous))


def test_an_image_in_the_accounts_own_ecr_needs_no_login(aws: Aws, tmp_path: Path) -> None:
    image = opened(aws, BASE, tmp_path)
    assert len(image.layers) == 1
    assert b"".join(image.layers[0].blob.open())
    with pytest.raises(DeniedError):
        open_image(BASE.replace(HOST, "127.0.0.1:9"), None, architecture="amd64", cache=tmp_path, keychain=denied)


def denied(host: str) -> Credentials | None:
    raise DeniedError(f"asked for {host}")


def test_an_index_in_ecr_gives_the_image_of_the_function_s_processor(local: Local, aws: Aws, tmp_path: Path) -> None:
    children = {name: push_image(local, "base/multi", f"only-{name}", architecture=name) for name in ("amd64", "arm64")}
    entries = [
        {"mediaType": oci.OCI_MANIFEST, "digest": digest, "size": manifest_size(local, digest), "platform": {"os": "linux", "architecture": name}}
        for name, digest in children.items()
    ]  # fmt: skip
    push_manifest(local, "base/multi", "1", {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries})
    for name, digest in children.items():
        image = open_image(
            f"{HOST}/base/multi:1", None, architecture=name, cache=tmp_path, keychain=ecr_keychain(aws, anonymous)
        )
        assert image.digest == digest


def manifest_size(local: Local, digest: str) -> int:
    return len(local.web.get(f"{local.url}/v2/base/multi/manifests/{digest}").content)


def test_who_we_are_elsewhere_is_what_docker_knows(aws: Aws, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    auth = base64.b64encode(b"me:secret").decode()
    stranger = f"999999999999.dkr.ecr.{REGION}.amazonaws.com"
    config.write_text(
        json.dumps({"auths": {"registry.example": {"auth": auth}, stranger: {"auth": auth}, HOST: {"auth": auth}}})
    )
    keychain = ecr_keychain(aws, docker_keychain(config))
    assert keychain("registry.example") == Credentials("me", "secret")
    assert keychain("other.example") is None
    assert keychain(stranger) == Credentials("me", "secret")  # of somebody whom the other account lets in
    ours = keychain(HOST)
    assert ours is not None
    assert ours.user == "AWS"  # what `docker login` kept of it may be hours too old
    config.write_text("{}")
    theirs = keychain(stranger)
    assert theirs is not None
    assert theirs.user == "AWS"


def test_a_base_image_of_the_same_ecr_is_linked_where_the_account_wants_that(
    local: Local, aws: Aws, cache: Path, tmp_path: Path
) -> None:
    fn = definition(tmp_path, BASE)
    image = function_image(fn, cache=cache, keychain=ecr_keychain(aws, anonymous))
    base = sum(layer.blob.descriptor.size for layer in image.layers[:1])
    for name, value, mounted in (("scar/streamed", "DISABLED", 0), ("scar/linked", "ENABLED", base)):
        local.ecr.create_repository(repositoryName=name)
        local.ecr.put_account_setting(name="BLOB_MOUNTING", value=value)
        result = push(image, ecr_registry(aws), name)
        assert result.bytes_mounted == mounted
        assert result.digest == image.digest
        advice = why_bytes_moved(aws, image, name, result)
        if mounted:
            assert advice is None
        else:
            assert advice is not None
            assert "aws ecr put-account-setting --name BLOB_MOUNTING --value ENABLED" in advice
        again = push(image, ecr_registry(aws), name)
        assert again.bytes_sent == len(image.manifest)
        assert why_bytes_moved(aws, image, name, again) is None


def test_bytes_that_ecr_will_never_link_are_told_without_a_vain_advice(
    local: Local, aws: Aws, cache: Path, tmp_path: Path
) -> None:
    image = function_image(definition(tmp_path, BASE), cache=cache, keychain=ecr_keychain(aws, anonymous))
    local.ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    total = image.size + image.config.descriptor.size + len(image.manifest)
    advice = why_bytes_moved(aws, image, "scar/f", PushResult(image.digest, total, 0, 0))
    assert advice is not None
    assert "pull-through" in advice
    assert "put-account-setting" not in advice


def test_an_image_from_elsewhere_moves_without_a_word(aws: Aws, cache: Path, tmp_path: Path) -> None:
    image = function_image(definition(tmp_path, "scratch"), cache=cache)
    total = image.size + image.config.descriptor.size + len(image.manifest)
    assert why_bytes_moved(aws, image, "scar/f", PushResult(image.digest, total, 0, 0)) is None


@pytest.fixture
def cached(local: Local, open_registry: RunningRegistry) -> Iterator[str]:
    """A pull-through cache of a registry on this machine; its prefix."""
    local.ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="hub", upstreamRegistryUrl=open_registry.host)
    yield "hub"
    local.ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="hub")


def test_a_pull_through_cache_is_a_source_and_its_bytes_go_through_this_machine(
    local: Local, aws: Aws, cache: Path, tmp_path: Path, cached: str, open_registry: RunningRegistry
) -> None:
    upstream = Registry(open_registry.host)
    digest = push(opened(aws, BASE, tmp_path), upstream, "library/tool", tag="1").digest
    name = f"{HOST}/{cached}/library/tool:1"
    assert opened(aws, name, tmp_path).digest == digest
    assert local.ecr_has(f"{cached}/library/tool")
    local.ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    image = function_image(definition(tmp_path, name), cache=cache, keychain=ecr_keychain(aws, anonymous))
    local.ecr.create_repository(repositoryName="scar/from-cache")
    result = push(image, ecr_registry(aws), "scar/from-cache")
    assert result.bytes_mounted == 0
    advice = why_bytes_moved(aws, image, "scar/from-cache", result)
    assert advice is not None
    assert "pull-through" in advice


def test_an_image_that_a_pull_through_cache_cannot_fetch_is_told_with_where_it_looks(
    aws: Aws, tmp_path: Path, cached: str, open_registry: RunningRegistry
) -> None:
    name = f"{HOST}/{cached}/library/none:1"
    with pytest.raises(NotFoundError) as missing, absence_explained(aws, name):
        opened(aws, name, tmp_path)
    message = str(missing.value)
    assert f"from {open_registry.host}" in message
    assert "again in a minute" in message


def test_a_repository_of_ecr_that_is_not_there_is_named(aws: Aws, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="base/none does not exist"), absence_explained(aws, f"{HOST}/base/none:1"):
        opened(aws, f"{HOST}/base/none:1", tmp_path)


def test_other_failures_pass_unchanged(aws: Aws) -> None:
    with pytest.raises(NotFoundError) as raised, absence_explained(aws, "busybox"):
        raise NotFoundError("gone", fix="Do this.")
    assert raised.value.fix == "Do this."
    with pytest.raises(ClientError), absence_explained(aws, BASE):
        aws.ecr.describe_images(repositoryName="none")
