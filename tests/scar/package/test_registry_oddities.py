"""What registries answer that no specification foresees, and what they may not get us to do."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import threading
import zlib
from pathlib import Path

import pytest

from scar.errors import ConflictError, DeniedError, NotFoundError, ScarError, ServiceError
from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.compress import plain
from scar.package.derive import assemble
from scar.package.layer import Directory, File, GzipHashing, layer_of, memory_blob
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials
from scar.package.registry.push import push
from scar.package.source import open_image
from scar.package.unpacked import Budget
from tests.scar.package.faulty import Answer, Faulty, Handler, keep_then_hang_up, says, status
from tests.scar.package.images import bytes_of, config_of, descriptor_of, digest_of, small_layer
from tests.support.registries import PASSWORD, USER

LOGIN = Credentials(USER, PASSWORD)
MIB = 1 << 20
LARGE = layer_of([File("noise", os.urandom(17 * MIB))])


def image(*layers: oci.Layer) -> oci.Image:
    return assemble(json.loads(config_of(*(layer.diff_id for layer in layers))), layers)


def asked(faulty: Faulty, method: str, part: str = "") -> list[str]:
    return [path for verb, path, _ in faulty.requests if verb == method and part in path]


# ---- uploads that are cut


def test_a_cut_upload_goes_on_from_the_byte_where_the_registry_says_it_stands(faulty: Faulty) -> None:
    faulty.on("PATCH", "uploads", keep_then_hang_up(2 * MIB), keep_then_hang_up(1 * MIB))
    told: list[int] = []
    result = push(image(LARGE), faulty.registry(), "x", tag="1", tell=lambda done, total, what: told.append(done))
    ranges = [headers.get("Content-Range") for method, _, headers in faulty.requests if method == "PATCH"]
    size = LARGE.blob.descriptor.size
    assert ranges == [None, f"{2 * MIB}-{size - 1}", f"{3 * MIB}-{size - 1}"]
    assert len(asked(faulty, "POST")) == 2  # one for the layer, one for the configuration
    assert faulty.blobs[LARGE.blob.descriptor.digest] == bytes_of(LARGE)
    assert result.bytes_sent > size
    assert max(told) == told[-1]


def test_an_upload_whose_registry_cannot_say_where_it_stands_starts_over(faulty: Faulty) -> None:
    faulty.on("PATCH", "uploads", keep_then_hang_up(2 * MIB))
    faulty.on("GET", "uploads", status(405))
    push(image(LARGE), faulty.registry(), "x", tag="1")
    assert len(asked(faulty, "POST")) == 3
    assert faulty.blobs[LARGE.blob.descriptor.digest] == bytes_of(LARGE)


def test_a_registry_that_takes_one_patch_and_loses_each_further_one_gets_the_whole_again(faulty: Faulty) -> None:
    """So does Amazon ECR (containers-roadmap 2831): it answers 201, and the range does not advance."""

    def lose(handler: Handler) -> None:
        kept = len(handler.registry.uploads[handler.path.partition("?")[0]])
        handler.body()
        handler.answer(201, Range=f"0-{kept - 1}")

    faulty.on("PATCH", "uploads", keep_then_hang_up(2 * MIB), lose)
    push(image(LARGE), faulty.registry(), "x", tag="1")
    assert len(asked(faulty, "PATCH")) == 3
    assert faulty.blobs[LARGE.blob.descriptor.digest] == bytes_of(LARGE)


def test_a_blob_from_the_middle_of_which_nothing_can_be_read_starts_over(faulty: Faulty) -> None:
    faulty.on("PATCH", "uploads", keep_then_hang_up(2 * MIB))
    layer = dataclasses.replace(LARGE, blob=dataclasses.replace(LARGE.blob, open_at=None))
    push(image(layer), faulty.registry(), "x", tag="1")
    assert not asked(faulty, "GET")
    assert faulty.blobs[LARGE.blob.descriptor.digest] == bytes_of(LARGE)


def test_an_upload_that_is_cut_for_ever_ends_with_an_error(faulty: Faulty) -> None:
    faulty.on("PATCH", "uploads", *[keep_then_hang_up(0)] * 200)
    with pytest.raises(ServiceError):
        push(image(LARGE), faulty.registry(), "x", tag="1")
    assert not asked(faulty, "PUT", "manifests")


def test_a_throttled_upload_waits_as_long_as_asked(faulty: Faulty) -> None:
    faulty.on("PATCH", "uploads", status(429, Retry_After="9"))
    push(image(LARGE), faulty.registry(), "x", tag="1")
    assert 9 in faulty.pauses
    assert sum(faulty.pauses) < 10


def test_a_registry_that_limits_us_for_good_says_what_can_be_done(faulty: Faulty) -> None:
    limited = '{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
    faulty.on("GET", "manifests", *[says(429, limited)] * 9)
    with pytest.raises(ServiceError, match="TOOMANYREQUESTS You have reached") as raised:
        faulty.registry().manifest("x", "latest")
    assert "docker login" in str(raised.value)


# ---- mounting, and what is there


@pytest.mark.parametrize("code", [202, 400, 403, 404, 405])
def test_a_registry_that_does_not_mount_is_sent_the_blob(faulty: Faulty, code: int) -> None:
    layer = small_layer(content=str(code).encode())
    base = faulty.has(bytes_of(layer))
    mounted = dataclasses.replace(layer, blob=dataclasses.replace(base, repository="elsewhere"))
    del faulty.blobs[layer.blob.descriptor.digest]
    faulty.on("GET", "elsewhere", says(200, ""), lambda handler: handler.answer(200, bytes_of(layer)))
    faulty.scripted["GET", "blobs"] = [lambda handler: handler.answer(200, bytes_of(layer))] * 2
    if code != 202:
        faulty.on("POST", "mount=", status(code))
    push(image(mounted), faulty.registry(), "x", tag="1")
    assert faulty.blobs[layer.blob.descriptor.digest] == bytes_of(layer)


def test_whether_blobs_are_there_is_asked_of_many_at_once_and_few_are_on_their_way_at_once(faulty: Faulty) -> None:
    layers = tuple(small_layer(content=str(number).encode()) for number in range(12))
    together = threading.Barrier(8, timeout=10)
    on_their_way, most, lock = 0, 0, threading.Lock()

    def meet(handler: Handler) -> None:
        together.wait()
        handler.usual()

    def count(handler: Handler) -> None:
        nonlocal on_their_way, most
        with lock:
            on_their_way += 1
            most = max(most, on_their_way)
        threading.Event().wait(0.02)
        with lock:
            on_their_way -= 1
        handler.usual()

    faulty.on("HEAD", "blobs", *[meet] * 8)
    faulty.on("PUT", "uploads", *[count] * 13)
    push(image(*layers), faulty.registry(), "x", tag="1")
    assert 1 < most <= 4


def test_progress_counts_bytes_and_layers(faulty: Faulty) -> None:
    there, new, twice = (small_layer(content=text) for text in (b"there", b"new", b"twice"))
    faulty.blobs[there.blob.descriptor.digest] = bytes_of(there)
    told: list[tuple[int, int, str]] = []
    push(image(there, new, twice, twice), faulty.registry(), "x", tag="1", tell=lambda *step: told.append(step))
    assert told[0][2] == "push, 1 of 3 layers"
    assert told[-1][2] == "push, 3 of 3 layers"
    assert told[-1][0] == told[-1][1]


# ---- logging in


def test_a_password_that_runs_out_in_the_middle_is_asked_for_again(faulty: Faulty) -> None:
    """Amazon ECR's holds for twelve hours, and the registry says so in words."""
    asks: list[Credentials] = []

    def renew() -> Credentials:
        asks.append(Credentials("AWS", "new"))
        return asks[-1]

    expired = (
        '{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}'
    )
    faulty.on("HEAD", "blobs", status(401, WWW_Authenticate='Basic realm="x"'))
    faulty.on("PUT", "uploads", says(403, expired))
    push(image(small_layer()), faulty.registry(Credentials("AWS", "old"), renew=renew), "x", tag="1")
    assert len(asks) == 1
    assert faulty.requests[0][2].get("Authorization") is None
    assert faulty.requests[-1][2]["Authorization"] == Credentials("AWS", "new").basic


def test_a_password_that_is_refused_and_not_renewed_is_a_denial(faulty: Faulty) -> None:
    faulty.on("GET", "manifests", *[status(401, WWW_Authenticate='Basic realm="x"')] * 9)
    with pytest.raises(DeniedError, match="as bob"):
        faulty.registry(LOGIN, renew=lambda: LOGIN).manifest("x", "latest")
    assert len(faulty.requests) == 2


def test_a_token_is_replaced_before_it_runs_out_so_that_no_upload_is_refused(faulty: Faulty) -> None:
    now = [0.0]
    grants = [b'{"token":"first","expires_in":100}', b'{"token":"second","expires_in":100}']
    faulty.on("GET", "/token", *[lambda handler: handler.answer(200, grants.pop(0))] * 2)
    challenge = f'Bearer realm="http://{faulty.host}/token",service="s"'
    faulty.on("PUT", "manifests", status(401, WWW_Authenticate=challenge))
    registry = faulty.registry(clock=lambda: now[0])
    registry.put_manifest("x", image(small_layer()), "1")
    now[0] = 95.0
    registry.put_manifest("x", image(small_layer()), "1")
    assert [headers.get("Authorization") for method, _, headers in faulty.requests if method == "PUT"] == [
        None,
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize("kind", ["Basic", "Bearer"])
def test_a_push_logs_in_first_so_that_none_of_its_requests_is_refused(faulty: Faulty, kind: str) -> None:
    faulty.challenge = {"Basic": 'Basic realm="x"', "Bearer": f'Bearer realm="http://{faulty.host}/token",service="s"'}[
        kind
    ]
    faulty.on("GET", "/token", *[says(200, '{"token":"t"}')] * 2)
    push(image(small_layer()), faulty.registry(LOGIN), "x", tag="1")
    sent = {headers.get("Authorization") for _, path, headers in faulty.requests if "/token" not in path}
    assert sent == {LOGIN.basic if kind == "Basic" else "Bearer t"}
    assert len(asked(faulty, "GET", "/token")) == (0 if kind == "Basic" else 1)


def test_a_token_server_that_sends_us_elsewhere_is_not_followed(faulty: Faulty) -> None:
    faulty.on("GET", "/token", status(302, Location="http://127.0.0.1:9/steal"))
    faulty.on(
        "GET", "manifests", status(401, WWW_Authenticate=f'Bearer realm="http://{faulty.host}/token",service="s"')
    )
    with pytest.raises(ServiceError, match="302"):
        faulty.registry(LOGIN).manifest("x", "latest")


def test_an_upload_place_on_another_host_gets_no_credentials(faulty: Faulty) -> None:
    elsewhere = Faulty()
    try:
        elsewhere.uploads["/v2/x/blobs/uploads/1"] = bytearray()
        faulty.on("HEAD", "blobs", status(401, WWW_Authenticate='Basic realm="x"'))
        faulty.on("POST", "uploads", *[status(202, Location=f"http://{elsewhere.host}/v2/x/blobs/uploads/1?s=1")] * 2)
        with pytest.raises(ScarError):  # two uploads in one place: that goes wrong, which is not what is asked here
            push(image(small_layer()), faulty.registry(LOGIN), "x", tag="1")
        assert any("Authorization" in headers for _, _, headers in faulty.requests)
        assert elsewhere.requests
        assert not any("Authorization" in headers for _, _, headers in elsewhere.requests)
    finally:
        elsewhere.close()


# ---- lies


def test_a_digest_that_is_announced_must_be_that_of_what_is_sent(faulty: Faulty) -> None:
    faulty.on("GET", "manifests", says(200, "{}", Docker_Content_Digest="sha256:" + "0" * 64))
    with pytest.raises(ServiceError, match="announced sha256:000"):
        faulty.registry().manifest("x", "latest")


def test_a_registry_without_room_is_not_tried_again(faulty: Faulty) -> None:
    faulty.on("PUT", "uploads", *[says(507, "no room")] * 9)
    with pytest.raises(ServiceError, match="make room there"):
        push(image(small_layer()), faulty.registry(), "x", tag="1")
    assert faulty.pauses == []


@pytest.mark.parametrize("place", ["http://[", "http://127.0.0.1:99999999/", "//[x"])
def test_an_address_that_is_none_is_told_as_such(faulty: Faulty, place: str) -> None:
    faulty.on("GET", "manifests", status(307, Location=place))
    with pytest.raises(ServiceError, match="not an address"):
        faulty.registry().manifest("x", "latest")
    faulty.on("GET", "manifests", status(401, WWW_Authenticate=f'Bearer realm="{place}",service="s"'))
    with pytest.raises(ServiceError, match="not an"):
        faulty.registry().manifest("x", "latest")


@pytest.mark.parametrize(
    ("code", "says_it", "kind"),
    [
        (400, "TAG_INVALID The image tag '1' already exists and cannot be overwritten because the repository is immutable.", ConflictError),
        (412, "PRECONDITION Failed to process request due to 1 configured as immutable.", ConflictError),
        (404, "NAME_UNKNOWN The repository does not exist", NotFoundError),
        (413, "", ServiceError),
    ],
)  # fmt: skip
def test_what_a_registry_will_not_take_is_told_by_its_kind(
    faulty: Faulty, code: int, says_it: str, kind: type[ScarError]
) -> None:
    faulty.on("PUT", "manifests", says(code, says_it))
    with pytest.raises(kind):
        push(image(small_layer()), faulty.registry(), "x", tag="1")


# ---- images that Lambda would refuse


def opened(faulty: Faulty, tmp_path: Path, *layers: dict[str, object], **more: object) -> oci.Image:
    """An image whose manifest names these layers."""
    config = config_of(*(str(layer.pop("diff_id", layer["digest"])) for layer in layers))
    faulty.blobs[digest_of(config)] = config
    manifest = {"schemaVersion": 2, "config": descriptor_of(config, oci.OCI_CONFIG), "layers": layers, **more}
    faulty.blobs["1"] = json.dumps(manifest).encode()
    name = f"{faulty.host}/x:1"
    return open_image(name, None, architecture=host_architecture(), cache=tmp_path, keychain=lambda host: None)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ],
)
def test_a_layer_that_may_not_be_copied_is_refused(faulty: Faulty, tmp_path: Path, media_type: str) -> None:
    with pytest.raises(ScarError, match="may not be copied"):
        opened(faulty, tmp_path, descriptor_of(b"x", media_type, urls=["https://registry.example/x"]))


@pytest.mark.parametrize("kind", ["zstd", "zstd in two frames", "plain"])
def test_layers_that_lambda_refuses_are_compressed_anew_to_the_same_bytes_everywhere(
    faulty: Faulty, tmp_path: Path, kind: str
) -> None:
    import zstandard

    tar = b"".join(layer_tar())
    compress = zstandard.ZstdCompressor().compress
    content, suffix = {
        "zstd": (compress(tar), "+zstd"),
        "zstd in two frames": (compress(tar[:5000]) + compress(tar[5000:]), "+zstd"),
        "plain": (tar, ""),
    }[kind]
    faulty.blobs[digest_of(content)] = content
    digests = set()
    for machine in ("a", "b"):
        for _ in range(2):
            layer = descriptor_of(content, f"application/vnd.oci.image.layer.v1.tar{suffix}", diff_id=digest_of(tar))
            base = opened(faulty, tmp_path / machine, layer)
            digests.add(base.layers[0].blob.descriptor.digest)
            assert zlib.decompress(bytes_of(base.layers[0]), 31) == tar
    assert len(digests) == 1
    assert (
        len([path for path in asked(faulty, "GET") if digest_of(content) in path]) == 2
    )  # the second time from the cache


def layer_tar() -> list[bytes]:
    return [zlib.decompress(bytes_of(layer_of([File("words", b"many words " * 2000)])), 31)]


@pytest.mark.parametrize("kind", ["zstd", "gzip", "plain"])
def test_a_layer_is_not_unpacked_beyond_what_an_image_may_hold(kind: str) -> None:
    import zstandard

    tar = bytes(16 * MIB)
    content = {"zstd": zstandard.ZstdCompressor().compress(tar), "gzip": gzip.compress(tar), "plain": tar}[kind]
    assert sum(map(len, plain(iter((content,)), "x", limit=16 * MIB))) == 16 * MIB
    unpacked = plain(iter((content, content)), "x", limit=16 * MIB + 1)
    with pytest.raises(ScarError, match="unpacks to more than"):
        for _ in unpacked:
            pass


def test_a_layer_of_no_bytes_becomes_an_empty_archive(faulty: Faulty, tmp_path: Path) -> None:
    faulty.blobs[digest_of(b"")] = b""
    base = opened(faulty, tmp_path, descriptor_of(b"", oci.OCI_LAYER_GZIP))
    assert zlib.decompress(bytes_of(base.layers[0]), 31) == b""
    assert base.layers[0].diff_id == digest_of(b"")


@pytest.mark.parametrize("media_type", sorted(oci.SCHEMA_1))
def test_the_oldest_manifests_are_refused_in_clear_words(faulty: Faulty, tmp_path: Path, media_type: str) -> None:
    document = json.dumps({"schemaVersion": 1, "fsLayers": [], "history": []})
    for named in (media_type, "application/json"):
        faulty.on(
            "GET",
            "manifests",
            says(200, document, Content_Type=named, Docker_Content_Digest=digest_of(document.encode())),
        )
        with pytest.raises(ScarError, match="schema 1"):
            open_image(f"{faulty.host}/x:1", None, architecture="x86_64", cache=tmp_path, keychain=lambda host: None)


def test_a_platform_that_is_none_is_not_among_those_that_are_named(faulty: Faulty, tmp_path: Path) -> None:
    entries = [
        descriptor_of(b"a", oci.OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"}),
        descriptor_of(b"b", oci.OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64", "variant": "v8"}),
        descriptor_of(b"c", oci.OCI_MANIFEST, platform={"os": "linux", "architecture": "s390x"}),
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries})
    faulty.blobs["1"] = index.encode()
    with pytest.raises(NotFoundError, match="only for linux/arm64/v8, linux/s390x"):
        open_image(f"{faulty.host}/x:1", None, architecture="x86_64", cache=tmp_path, keychain=lambda host: None)


def test_a_layer_that_is_said_to_be_gzip_and_is_not_is_never_named(faulty: Faulty, tmp_path: Path) -> None:
    faulty.blobs[digest_of(b"plain")] = b"plain"
    base = opened(faulty, tmp_path, descriptor_of(b"plain", oci.OCI_LAYER_GZIP))
    destination = Faulty()
    try:
        with pytest.raises(ScarError, match="said to be gzip-compressed and is not"):
            push(base, destination.registry(), "x", tag="1")
        assert not asked(destination, "PUT", "manifests")
    finally:
        destination.close()


def test_an_image_that_names_a_gigabyte_too_much_is_refused_before_anything_is_copied(
    faulty: Faulty, tmp_path: Path
) -> None:
    huge = {"mediaType": oci.OCI_LAYER_GZIP, "digest": digest_of(b"x"), "size": 11 << 30}
    with pytest.raises(ScarError, match=r"11\.0 GiB; Lambda takes images of at most 10 GiB"):
        opened(faulty, tmp_path, huge)
    assert len(asked(faulty, "GET")) == 1


# ---- what an image unpacks to


def zeros(count: int) -> oci.Blob:
    class Out(list[bytes]):
        write = list.append

    out = Out()
    stream = GzipHashing(out)  # type: ignore[arg-type]
    for _ in range(count):
        stream.write(bytes(MIB))
    stream.finish()
    return memory_blob(b"".join(out), oci.DOCKER_LAYER_GZIP)


def read(blob: oci.Blob) -> int:
    return sum(len(chunk) for chunk in blob.open())


def test_an_image_is_refused_as_soon_as_its_layers_unpack_to_too_much() -> None:
    first, second = zeros(8), zeros(9)
    budget = Budget((first, second), limit=16 * MIB)
    budget.is_counting = True
    assert read(budget.watched(first)) == first.descriptor.size
    with pytest.raises(ScarError, match="unpacks to more than"):
        read(budget.watched(second))


def test_layers_that_were_there_before_count_by_their_last_bytes() -> None:
    first, second = zeros(8), zeros(9)
    budget = Budget((first, second), limit=16 * MIB)
    budget.arrived(first, b"".join(first.open())[-4:])
    with pytest.raises(ScarError, match="unpacks to more than"):
        budget.arrived(second, b"".join(second.open())[-4:])


def test_a_layer_that_the_image_has_twice_counts_twice() -> None:
    layer = zeros(9)
    with pytest.raises(ScarError, match="unpacks to more than"):
        Budget((layer, layer), limit=16 * MIB).arrived(layer, b"".join(layer.open())[-4:])


def test_what_is_read_again_after_a_cut_counts_once() -> None:
    content = os.urandom(3 * MIB)
    blob = layer_of([Directory("a"), File("a/noise", content)]).blob
    budget = Budget((blob,), limit=5 * MIB)
    assert budget.is_counting
    watched = budget.watched(blob)
    assert watched.open_at is not None
    chunks = watched.open()
    next(chunks), next(chunks)
    assert sum(len(chunk) for chunk in watched.open_at(MIB)) == blob.descriptor.size - MIB


def test_a_tail_comes_from_a_registry_that_sends_parts_and_from_no_other(faulty: Faulty) -> None:
    blob = faulty.has(b"0123456789")
    registry: Registry = faulty.registry()
    assert registry.tail("x", blob.descriptor, 4) == b"6789"
    whole: Answer = lambda handler: handler.answer(200, b"0123456789")  # noqa: E731
    faulty.on("GET", "blobs", whole)
    assert registry.tail("x", blob.descriptor, 4) is None
