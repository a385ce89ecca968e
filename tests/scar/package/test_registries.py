"""Pushing and reading: against Debian's registry with every kind of login, and against a server that fails on purpose."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scar.errors import DeniedError, NotFoundError, ScarError, ServiceError
from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.derive import assemble
from scar.package.ecr import ecr_registry
from scar.package.layer import File, layer_of, memory_blob
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials, anonymous
from scar.package.registry.push import PushResult, push
from scar.package.source import open_image
from tests.scar.package.conftest import PASSWORD, USER, RunningRegistry
from tests.scar.package.faulty import Faulty, Handler, cut, hang_up, status
from tests.scar.package.images import bytes_of, config_of, descriptor_of, digest_of, small_layer

LOGIN = Credentials(USER, PASSWORD)


def image(content: bytes = b"hello") -> oci.Image:
    layer = small_layer(content=content)
    return assemble(json.loads(config_of(layer.diff_id)), (layer,))


def pulled(host: str, name: str, tmp_path: Path, credentials: Credentials | None = None) -> oci.Image:
    return open_image(
        f"{host}/{name}",
        None,
        architecture=host_architecture(),
        cache=tmp_path,
        keychain=lambda asked: credentials if asked == host else None,
    )


def blob_bytes(image: oci.Image) -> int:
    return image.config.descriptor.size + image.size


# ---- a real registry


def test_a_pushed_image_comes_back_byte_for_byte(open_registry: RunningRegistry, tmp_path: Path) -> None:
    pushed = image()
    result = push(pushed, Registry(open_registry.host), "a/b", tag="1")
    back = pulled(open_registry.host, "a/b:1", tmp_path)
    assert (back.digest, back.manifest) == (pushed.digest, pushed.manifest) == (result.digest, pushed.manifest)
    assert bytes_of(back.layers[0]) == bytes_of(pushed.layers[0])
    assert pulled(open_registry.host, f"a/b@{pushed.digest}", tmp_path).digest == pushed.digest


def test_an_image_can_be_pushed_without_a_tag(open_registry: RunningRegistry, tmp_path: Path) -> None:
    pushed = image(b"untagged")
    push(pushed, Registry(open_registry.host), "untagged")
    assert pulled(open_registry.host, f"untagged@{pushed.digest}", tmp_path).digest == pushed.digest


def test_pushing_again_sends_the_manifest_only(open_registry: RunningRegistry) -> None:
    pushed = image(b"again")
    registry = Registry(open_registry.host)
    first = push(pushed, registry, "again", tag="1")
    assert first == PushResult(pushed.digest, blob_bytes(pushed) + len(pushed.manifest), 0, 0)
    assert push(pushed, registry, "again", tag="2") == PushResult(
        pushed.digest, len(pushed.manifest), 0, blob_bytes(pushed)
    )


def test_layers_of_the_same_registry_are_mounted_not_sent(open_registry: RunningRegistry, tmp_path: Path) -> None:
    push(image(b"mounted"), Registry(open_registry.host), "from", tag="1")
    base = pulled(open_registry.host, "from:1", tmp_path)
    result = push(base, Registry(open_registry.host), "to", tag="1")
    assert result.bytes_mounted == base.size
    assert result.bytes_sent == base.config.descriptor.size + len(base.manifest)


def test_layers_stream_from_one_registry_into_another_in_bounded_memory(
    open_registry: RunningRegistry, other_registry: RunningRegistry, tmp_path: Path
) -> None:
    """CL25."""
    layer = layer_of([File("noise", os.urandom(40 << 20))])
    push(assemble(json.loads(config_of(layer.diff_id)), (layer,)), Registry(open_registry.host), "large", tag="1")
    base = pulled(open_registry.host, "large:1", tmp_path)
    largest = 0
    for chunk in base.layers[0].blob.open():
        largest = max(largest, len(chunk))
    assert largest <= oci.CHUNK
    told: list[tuple[int, int]] = []
    result = push(
        base, Registry(other_registry.host), "large", tag="1", tell=lambda done, total, what: told.append((done, total))
    )
    assert result.bytes_sent == blob_bytes(base) + len(base.manifest)
    assert told[-1] == (blob_bytes(base), blob_bytes(base))
    assert len(told) > 20
    assert not list(tmp_path.rglob("*.tar*"))


def test_a_user_and_password_are_used_when_the_registry_asks(basic_registry: RunningRegistry, tmp_path: Path) -> None:
    pushed = image(b"basic")
    push(pushed, Registry(basic_registry.host, LOGIN), "basic", tag="1")
    assert pulled(basic_registry.host, "basic:1", tmp_path, LOGIN).digest == pushed.digest


@pytest.mark.parametrize("credentials", [None, Credentials("bob", "wrong")])
def test_a_refused_login_says_what_to_do(basic_registry: RunningRegistry, credentials: Credentials | None) -> None:
    """CL25."""
    with pytest.raises(DeniedError, match=f"docker login {basic_registry.host}") as raised:
        push(image(), Registry(basic_registry.host, credentials), "basic", tag="1")
    assert "wrong" not in str(raised.value)


def test_tokens_are_fetched_for_pull_push_and_mount(token_registry: RunningRegistry, tmp_path: Path) -> None:
    push(image(b"token"), Registry(token_registry.host, LOGIN), "token/from", tag="1")
    base = pulled(token_registry.host, "token/from:1", tmp_path)  # anonymous
    result = push(base, Registry(token_registry.host, LOGIN), "token/to", tag="1")
    assert result.bytes_mounted == base.size


@pytest.mark.parametrize("credentials", [None, Credentials("bob", "wrong")])
def test_a_token_that_does_not_allow_to_push_is_a_denial(
    token_registry: RunningRegistry, credentials: Credentials | None
) -> None:
    with pytest.raises(DeniedError):
        push(image(), Registry(token_registry.host, credentials), "token/denied", tag="1")


def test_an_image_that_is_not_there_is_not_found(open_registry: RunningRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
        pulled(open_registry.host, "none:1", tmp_path)


def test_an_index_in_a_registry_leads_to_our_platform_and_digests_are_kept(
    open_registry: RunningRegistry, tmp_path: Path
) -> None:
    """CL25."""
    ours = image(b"indexed")
    push(ours, Registry(open_registry.host), "indexed")
    platform = {"os": "linux", "architecture": host_architecture()}
    index = {
        "schemaVersion": 2,
        "mediaType": oci.DOCKER_LIST,
        "manifests": [descriptor_of(ours.manifest, ours.media_type, platform=platform)],
    }
    content = json.dumps(index).encode()
    request = urllib.request.Request(
        f"http://{open_registry.host}/v2/indexed/manifests/all",
        content,
        {"Content-Type": oci.DOCKER_LIST},
        method="PUT",
    )
    urllib.request.urlopen(request).close()
    assert pulled(open_registry.host, "indexed:all", tmp_path).digest == ours.digest


def test_the_accounts_registry_is_reached_with_its_token(basic_registry: RunningRegistry) -> None:
    class Ecr:
        def get_authorization_token(self) -> Any:
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=12)
            endpoint = f"http://{basic_registry.host}"
            return {"authorizationData": [{"authorizationToken": token, "proxyEndpoint": endpoint, "expiresAt": until}]}

    @dataclasses.dataclass
    class Account:
        ecr: Ecr
        account: str = "123456789012"
        region: str = "eu-west-1"
        partition: str = "aws"

    registry = ecr_registry(Account(Ecr()))  # type: ignore[arg-type]  # all that is asked of an Aws
    assert (
        registry.host == "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    )  # as images' names have it, wherever it answers
    assert push(image(b"ecr"), registry, "ecr", tag="1").bytes_sent > 0


# ---- a registry that fails on purpose

CONTENT = os.urandom(3 << 20)


def test_a_throttled_request_waits_as_long_as_asked_and_goes_on(faulty: Faulty) -> None:
    blob = faulty.has(CONTENT)
    faulty.on("GET", "blobs", status(429, Retry_After="7"), status(503))
    assert b"".join(blob.open()) == CONTENT
    assert faulty.pauses[0] == 7
    assert len(faulty.pauses) == 2


def test_retry_after_is_honoured_and_bounded(faulty: Faulty) -> None:
    faulty.on("PUT", "manifests", status(429, Retry_After="7"), status(429, Retry_After="86400"), status(500))
    push(image(), faulty.registry(), "x", tag="1")
    assert faulty.pauses[:2] == [7.0, 30.0]
    assert 0 < faulty.pauses[2] <= 4


def test_what_stays_unavailable_is_a_service_error_after_six_attempts(faulty: Faulty) -> None:
    faulty.on("PUT", "manifests", *[status(503)] * 20)
    with pytest.raises(ServiceError, match="503"):
        push(image(), faulty.registry(), "x", tag="1")
    assert len(faulty.pauses) == 5


def test_a_cut_download_goes_on_where_it_stopped(faulty: Faulty) -> None:
    registry = faulty.registry()
    faulty.has(CONTENT)
    faulty.on("GET", "blobs", cut(CONTENT, 2 << 20))
    blob = registry.blob("x", oci.Descriptor("", digest_of(CONTENT), len(CONTENT)))
    assert b"".join(blob.open()) == CONTENT
    ranges = [headers.get("Range") for _, _, headers in faulty.requests]
    assert ranges == [None, f"bytes={2 << 20}-"]


def test_a_server_that_ignores_ranges_costs_a_second_transfer_and_nothing_else(faulty: Faulty) -> None:
    registry = faulty.registry()
    faulty.on("GET", "blobs", cut(CONTENT, 2 << 20), lambda handler: handler.answer(200, CONTENT))
    blob = registry.blob("x", oci.Descriptor("", digest_of(CONTENT), len(CONTENT)))
    assert b"".join(blob.open()) == CONTENT


def test_a_download_that_is_cut_for_ever_ends_with_an_error(faulty: Faulty) -> None:
    registry = faulty.registry()
    faulty.on("GET", "blobs", *[cut(CONTENT, 0)] * 50)
    blob = registry.blob("x", oci.Descriptor("", digest_of(CONTENT), len(CONTENT)))
    with pytest.raises(ServiceError, match="stopped after 0 of"):
        b"".join(blob.open())


@pytest.mark.parametrize("wrong", [CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), CONTENT + b"more"])
def test_a_blob_that_is_not_what_its_digest_says_is_refused(faulty: Faulty, wrong: bytes) -> None:
    faulty.blobs[digest_of(CONTENT)] = wrong
    blob = faulty.registry().blob("x", oci.Descriptor("", digest_of(CONTENT), len(CONTENT)))
    with pytest.raises(ScarError, match=r"was expected|longer than"):
        b"".join(blob.open())


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(faulty: Faulty) -> None:
    faulty.blobs[digest_of(b"{}")] = b"{ }"
    with pytest.raises(ServiceError, match="the registry sent sha256:"):
        faulty.registry().manifest("x", digest_of(b"{}"))


def test_a_cut_manifest_is_asked_for_again(faulty: Faulty) -> None:
    faulty.blobs[digest_of(b'{"a":1}')] = b'{"a":1}'
    faulty.on("GET", "manifests", cut(b'{"a":1}', 3))
    assert faulty.registry().manifest("x", digest_of(b'{"a":1}')).content == b'{"a":1}'


def test_a_cut_upload_is_started_again(faulty: Faulty) -> None:
    faulty.on("PUT", "uploads", hang_up)
    pushed = image(CONTENT)
    assert push(pushed, faulty.registry(), "x", tag="1").bytes_sent > len(CONTENT)
    assert faulty.blobs[pushed.layers[0].blob.descriptor.digest] == bytes_of(pushed.layers[0])


def test_an_upload_that_arrived_although_the_answer_was_lost_is_not_sent_twice(faulty: Faulty) -> None:
    pushed = image()
    layer = pushed.layers[0].blob.descriptor

    def arrives_silently(handler: Handler) -> None:
        content = handler.body()
        faulty.blobs[digest_of(content)] = content
        handler.close_connection = True

    faulty.on("PUT", "uploads", arrives_silently, arrives_silently)
    push(pushed, faulty.registry(), "x", tag="1")
    sent = [path for method, path, _ in faulty.requests if method == "PUT" and layer.digest[7:] in path]
    assert len(sent) == 1


def test_a_failed_blob_stops_the_push_before_its_manifest(faulty: Faulty) -> None:
    faulty.on("PUT", "uploads", *[status(403)] * 9)
    with pytest.raises(DeniedError):
        push(image(), faulty.registry(), "x", tag="1")
    assert not [path for method, path, _ in faulty.requests if method == "PUT" and "manifests" in path]


def test_a_damaged_layer_is_not_pushed(faulty: Faulty) -> None:
    pushed = image()
    layer = pushed.layers[0]

    def raising() -> Iterator[bytes]:
        yield b"half"
        raise ScarError("content is not what was expected")

    bad = dataclasses.replace(layer, blob=dataclasses.replace(layer.blob, open=raising))
    with pytest.raises(ScarError, match="not what was expected"):
        push(dataclasses.replace(pushed, layers=(bad,)), faulty.registry(), "x", tag="1")


def test_credentials_do_not_follow_a_redirect_to_another_host(faulty: Faulty) -> None:
    elsewhere = Faulty()
    try:
        elsewhere.blobs[digest_of(CONTENT)] = CONTENT
        target = f"http://{elsewhere.host}/storage/{digest_of(CONTENT)}"
        faulty.on("GET", "blobs", status(401, WWW_Authenticate='Basic realm="x"'), status(307, Location=target))
        blob = faulty.registry(LOGIN).blob("x", oci.Descriptor("", digest_of(CONTENT), len(CONTENT)))
        assert b"".join(blob.open()) == CONTENT
        assert faulty.requests[-1][2]["Authorization"].startswith("Basic ")
        assert "Authorization" not in elsewhere.requests[0][2]
    finally:
        elsewhere.close()


def test_a_redirect_to_plain_http_elsewhere_is_refused(faulty: Faulty) -> None:
    faulty.on("GET", "blobs", status(307, Location="http://storage.example.org/x?signature=secret"))
    blob = faulty.registry().blob("x", oci.Descriptor("", digest_of(CONTENT), len(CONTENT)))
    with pytest.raises(ServiceError, match="plain http") as raised:
        b"".join(blob.open())
    assert "secret" not in str(raised.value)


def test_redirects_in_a_circle_end(faulty: Faulty) -> None:
    faulty.on("GET", "blobs", *[status(302, Location="/v2/x/blobs/again")] * 50)
    blob = faulty.registry().blob("x", oci.Descriptor("", digest_of(CONTENT), len(CONTENT)))
    with pytest.raises(ServiceError, match="302"):
        b"".join(blob.open())


def test_a_token_server_on_plain_http_elsewhere_gets_no_password(faulty: Faulty) -> None:
    faulty.on(
        "GET", "manifests", status(401, WWW_Authenticate='Bearer realm="http://tokens.example.org/t",service="s"')
    )
    with pytest.raises(ServiceError, match="plain http"):
        faulty.registry(LOGIN).manifest("x", "latest")


def test_a_registry_elsewhere_is_never_spoken_to_in_plain_http() -> None:
    with pytest.raises(ServiceError, match="plain http"):
        Registry("registry.example.org", endpoint="http://registry.example.org")


def test_a_manifest_without_end_is_not_read_to_its_end(faulty: Faulty) -> None:
    faulty.on("GET", "manifests", lambda handler: handler.answer(200, bytes(oci.MAX_MANIFEST_BYTES + 1)))
    with pytest.raises(ServiceError, match="longer than"):
        faulty.registry().manifest("x", "latest")


def test_a_registry_that_stores_something_else_is_found_out(faulty: Faulty) -> None:
    faulty.on("PUT", "manifests", status(201, Docker_Content_Digest="sha256:" + "0" * 64))
    with pytest.raises(ServiceError, match="stored"):
        push(image(), faulty.registry(), "x", tag="1")


def test_an_image_with_the_same_layer_twice_sends_it_once(faulty: Faulty) -> None:
    layer = small_layer()
    twice = assemble(json.loads(config_of(layer.diff_id, layer.diff_id)), (layer, layer))
    result = push(twice, faulty.registry(), "x", tag="1")
    assert result.bytes_sent == layer.blob.descriptor.size + twice.config.descriptor.size + len(twice.manifest)


def test_a_registry_that_nobody_knows_is_not_asked_again_and_again() -> None:
    pauses: list[float] = []
    with pytest.raises(ServiceError, match=r"registry\.invalid"):
        Registry("registry.invalid", sleep=pauses.append).manifest("x", "latest")
    assert pauses == []


def test_one_of_several_ways_to_log_in_is_chosen(faulty: Faulty) -> None:
    faulty.blobs["latest"] = b"{}"
    faulty.on("GET", "manifests", status(401, WWW_Authenticate='Negotiate, Basic realm="x"'))
    faulty.registry(LOGIN).manifest("x", "latest")
    assert faulty.requests[-1][2]["Authorization"] == LOGIN.basic


def test_a_way_to_log_in_that_is_not_known_is_named(faulty: Faulty) -> None:
    faulty.on("GET", "manifests", status(401, WWW_Authenticate="Negotiate"))
    with pytest.raises(DeniedError, match="'Negotiate'"):
        faulty.registry(LOGIN).manifest("x", "latest")


def test_an_identity_token_is_handed_to_the_token_server_in_a_form(faulty: Faulty) -> None:
    faulty.blobs["latest"] = b"{}"
    forms: list[bytes] = []

    def grant(handler: Handler) -> None:
        forms.append(handler.body())
        handler.answer(200, b'{"access_token":"granted"}')

    faulty.on(
        "GET", "manifests", status(401, WWW_Authenticate=f'Bearer realm="http://{faulty.host}/token",service="s"')
    )
    faulty.on("POST", "token", grant)
    faulty.registry(Credentials(None, "refresh")).manifest("x", "latest")
    assert b"grant_type=refresh_token" in forms[0]
    assert b"refresh_token=refresh" in forms[0]
    assert faulty.requests[-1][2]["Authorization"] == "Bearer granted"


def test_nobody_listening_is_a_service_error_that_names_the_registry() -> None:
    registry = Registry("127.0.0.1:1", anonymous("127.0.0.1:1"), sleep=lambda seconds: None)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1"):
        registry.manifest("x", "latest")


def test_blobs_are_sent_in_parallel(faulty: Faulty) -> None:
    layers = tuple(small_layer(content=str(number).encode()) for number in range(4))
    wide = assemble(json.loads(config_of(*(layer.diff_id for layer in layers))), layers)
    together = threading.Barrier(3, timeout=10)

    def meet(handler: Handler) -> None:
        together.wait()
        handler.usual()

    faulty.on("PUT", "uploads", meet, meet, meet)
    started = time.monotonic()
    push(wide, faulty.registry(), "x", tag="1")
    assert time.monotonic() - started < 10


def test_progress_adds_up_even_when_an_upload_starts_again(faulty: Faulty) -> None:
    faulty.on("PUT", "uploads", hang_up)
    pushed = image(CONTENT)
    told: list[tuple[int, int]] = []
    push(pushed, faulty.registry(), "x", tag="1", tell=lambda done, total, what: told.append((done, total)))
    assert told[-1] == (blob_bytes(pushed), blob_bytes(pushed))
    assert max(done for done, _ in told) <= blob_bytes(pushed)


def test_hashes_are_those_of_hashlib() -> None:
    blob = memory_blob(CONTENT, "x")
    assert blob.descriptor.digest == "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    assert b"".join(blob.open()) == CONTENT
