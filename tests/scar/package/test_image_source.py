"""Where a user's image comes from: archives of every make, whole and damaged."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scar.errors import NotFoundError, ScarError, UsageError
from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.derive import read_config
from scar.package.source import open_image
from tests.scar.package.images import bytes_of, config_of, descriptor_of, digest_of, small_layer, tar_of

ARCHITECTURE = host_architecture()
PLAIN = gzip.decompress(bytes_of(small_layer()))
PLATFORM = {"os": "linux", "architecture": ARCHITECTURE}


def opened(path: Path, tmp_path: Path) -> oci.Image:
    return open_image(None, path, architecture=ARCHITECTURE, cache=tmp_path / "cache")


def content_of(image: oci.Image) -> list[bytes]:
    return [gzip.decompress(bytes_of(layer)) for layer in image.layers]


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(tar_of(files))
    return path


def saved(layer: bytes = PLAIN, *, diff_id: str | None = None, name: str = "abc/layer.tar") -> dict[str, bytes]:
    """What `docker save` writes."""
    config = config_of(diff_id or digest_of(PLAIN))
    config_name = digest_of(config).removeprefix("sha256:") + ".json"
    manifest = [{"Config": config_name, "RepoTags": ["x:latest"], "Layers": [name]}]
    return {name: layer, config_name: config, "manifest.json": json.dumps(manifest).encode()}


def layout(
    layer: bytes | None = None, media_type: str = oci.OCI_LAYER_GZIP, *, platform: object = None, **settings: object
) -> dict[str, bytes]:
    """An OCI layout of one image."""
    layer = bytes_of(small_layer()) if layer is None else layer
    config = config_of(digest_of(PLAIN), **settings)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": descriptor_of(config, oci.OCI_CONFIG),
            "layers": [descriptor_of(layer, media_type)],
        }
    ).encode()
    more = {} if platform is None else {"platform": platform}
    index = {"schemaVersion": 2, "manifests": [descriptor_of(manifest, oci.OCI_MANIFEST, **more)]}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{blob_name(content): content for content in (layer, config, manifest)},
    }


def blob_name(content: bytes) -> str:
    return "blobs/" + digest_of(content).replace(":", "/")


def write_directory(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_an_archive_of_docker_save_is_read_and_its_layers_compressed(tmp_path: Path) -> None:
    image = opened(write_tar(tmp_path / "x.tar", saved()), tmp_path)
    assert content_of(image) == [PLAIN]
    assert read_config(image)["config"]["Cmd"] == ["/bin/hello"]


def test_compressing_a_layer_gives_the_same_bytes_every_time(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", saved())
    first = open_image(None, path, architecture=ARCHITECTURE, cache=tmp_path / "1")
    second = open_image(None, path, architecture=ARCHITECTURE, cache=tmp_path / "2")
    assert first.digest == second.digest


def test_a_damaged_compressed_layer_in_the_cache_is_made_again(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", saved())
    whole = bytes_of(opened(path, tmp_path).layers[0])
    (kept,) = (tmp_path / "cache" / "layers").glob("*/layer.tar.gz")
    kept.write_bytes(whole[:-1] + b"?")
    assert bytes_of(opened(path, tmp_path).layers[0]) == whole


def test_a_gzip_compressed_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(tar_of(saved())))
    assert content_of(opened(path, tmp_path)) == [PLAIN]
    assert content_of(opened(path, tmp_path)) == [PLAIN]  # from the cache


def test_links_to_layers_are_followed_inside_the_archive(tmp_path: Path) -> None:
    files = saved()
    files["f00.tar"] = files.pop("abc/layer.tar")
    path = write_tar(tmp_path / "x.tar", files)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("abc/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../f00.tar"
        tar.addfile(link)
    assert content_of(opened(path, tmp_path)) == [PLAIN]


def test_a_docker_archive_with_compressed_blobs_is_read_without_compressing_again(tmp_path: Path) -> None:
    layer = bytes_of(small_layer())
    image = opened(write_tar(tmp_path / "x.tar", saved(layer, name=blob_name(layer))), tmp_path)
    assert bytes_of(image.layers[0]) == layer


@pytest.mark.parametrize("write", [write_directory, write_tar])
def test_an_oci_layout_is_read_from_a_directory_and_from_a_tar(
    tmp_path: Path, write: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    image = opened(write(tmp_path / "image", layout()), tmp_path)
    assert content_of(image) == [PLAIN]
    assert image.media_type == oci.OCI_MANIFEST


def test_an_index_leads_to_the_image_of_the_platform_past_attestations(tmp_path: Path) -> None:
    files = layout(platform=PLATFORM)
    index = json.loads(files["index.json"])
    (ours,) = index["manifests"]
    attestation = ours | {
        "platform": {"os": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    nested = json.dumps({"schemaVersion": 2, "manifests": [attestation, foreign(), ours]}).encode()
    files[blob_name(nested)] = nested
    files["index.json"] = json.dumps({"manifests": [descriptor_of(nested, oci.OCI_INDEX)]}).encode()
    assert content_of(opened(write_tar(tmp_path / "x.tar", files), tmp_path)) == [PLAIN]


def foreign() -> dict[str, object]:
    return descriptor_of(b"x", oci.OCI_MANIFEST, platform={"os": "linux", "architecture": "s390x"})


def test_an_index_without_our_platform_says_which_ones_it_has(tmp_path: Path) -> None:
    files = layout()
    files["index.json"] = json.dumps({"manifests": [foreign()]}).encode()
    with pytest.raises(NotFoundError, match=f"no image for linux/{ARCHITECTURE}, only for linux/s390x"):
        opened(write_tar(tmp_path / "x.tar", files), tmp_path)


def test_an_uncompressed_layer_of_an_oci_layout_is_compressed(tmp_path: Path) -> None:
    files = layout(PLAIN, "application/vnd.oci.image.layer.v1.tar")
    assert content_of(opened(write_tar(tmp_path / "x.tar", files), tmp_path)) == [PLAIN]


def test_a_zstd_layer_is_compressed_anew_or_refused_with_the_reason(tmp_path: Path) -> None:
    # A frame of raw blocks: single segment, content size in four bytes.
    frame = (
        b"\x28\xb5\x2f\xfd\xa0"
        + len(PLAIN).to_bytes(4, "little")
        + ((len(PLAIN) << 3) | 1).to_bytes(3, "little")
        + PLAIN
    )
    path = write_tar(tmp_path / "x.tar", layout(frame, "application/vnd.oci.image.layer.v1.tar+zstd"))
    if importlib.util.find_spec("zstandard"):
        assert content_of(opened(path, tmp_path)) == [PLAIN]
    else:
        with pytest.raises(ScarError, match="zstd"):
            opened(path, tmp_path)


def changed(files: dict[str, bytes], **changes: bytes | None) -> dict[str, bytes]:
    result = dict(files)
    for name, content in changes.items():
        result.pop(name, None)
        if content is not None:
            result[name] = content
    return result


def with_index(index: object) -> dict[str, bytes]:
    return changed(layout(), **{"index.json": json.dumps(index).encode()})


def huge() -> dict[str, bytes]:
    config = config_of(digest_of(PLAIN))
    layers = [{"mediaType": oci.OCI_LAYER_GZIP, "digest": digest_of(b"x"), "size": 11 * 2**30}]
    manifest = json.dumps(
        {"schemaVersion": 2, "config": descriptor_of(config, oci.OCI_CONFIG), "layers": layers}
    ).encode()
    index = {"manifests": [descriptor_of(manifest, oci.OCI_MANIFEST)]}
    return {
        "oci-layout": b"{}",
        "index.json": json.dumps(index).encode(),
        blob_name(config): config,
        blob_name(manifest): manifest,
    }


DAMAGED: dict[str, tuple[dict[str, bytes], str]] = {
    "empty": ({}, "neither an archive"),
    "other files": ({"a.txt": b"x"}, "neither an archive"),
    "no manifest in it": (changed(saved(), **{"manifest.json": b"[]"}), "lists no image"),
    "manifest is no JSON": (changed(saved(), **{"manifest.json": b"{{"}), "not JSON"),
    "manifest is deep": (changed(saved(), **{"manifest.json": b"[" * 100_000}), "not JSON"),
    "manifest of another shape": (changed(saved(), **{"manifest.json": b'[{"Config": 1}]'}), "not what `docker save`"),
    "layer missing": (changed(saved(), **{"abc/layer.tar": None}), "abc/layer.tar is missing"),
    "layer changed": (saved(PLAIN + b"x"), "sha256:.* was expected|unpacks to"),
    "names that climb": (
        changed(saved(), **{"manifest.json": b'[{"Config":"../../etc/passwd","Layers":[]}]'}),
        "passwd is missing",
    ),
    "absolute names": (
        changed(saved(), **{"manifest.json": b'[{"Config":"/etc/passwd","Layers":[]}]'}),
        "passwd is missing",
    ),
    "blob missing": (changed(layout(), **{blob_name(bytes_of(small_layer())): None}), "is missing"),
    "blob of another size": (changed(layout(), **{blob_name(config_of(digest_of(PLAIN))): b"short"}), "announced"),
    "digest of another kind": (with_index({"manifests": [{"digest": "md5:1", "size": 1}]}), "not a descriptor"),
    "digest that climbs": (with_index({"manifests": [{"digest": "sha256:../../x", "size": 1}]}), "not a descriptor"),
    "negative size": (with_index({"manifests": [{"digest": digest_of(b""), "size": -1}]}), "not a descriptor"),
    "manifests are no list": (with_index({"manifests": {"a": 1}}), "not a list"),
    "too large": (huge(), "11.0 GiB"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_or_hostile_archive_is_refused_with_the_fact(tmp_path: Path, name: str) -> None:
    files, reason = DAMAGED[name]
    with pytest.raises(ScarError, match=reason):
        opened(write_tar(tmp_path / "x.tar", files), tmp_path)
    with pytest.raises(ScarError, match=reason):
        opened(write_directory(tmp_path / "x.d", files) if files else empty(tmp_path), tmp_path)


def empty(tmp_path: Path) -> Path:
    (tmp_path / "x.d").mkdir()
    return tmp_path / "x.d"


def test_a_changed_blob_of_the_right_size_is_found_when_it_is_read(tmp_path: Path) -> None:
    files = layout()
    name = blob_name(bytes_of(small_layer()))
    files[name] = files[name][:-1] + b"?"
    image = opened(write_tar(tmp_path / "x.tar", files), tmp_path)
    with pytest.raises(ScarError, match="was expected"):
        bytes_of(image.layers[0])


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", changed(saved(), **{"abc/layer.tar": None}))
    with tarfile.open(path, "a") as tar:
        for name, target in (("abc/layer.tar", "other"), ("abc/other", "layer.tar")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    with pytest.raises(ScarError, match="without end"):
        opened(path, tmp_path)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of(saved())[:1500])
    with pytest.raises(ScarError):
        opened(path, tmp_path)
    path.write_bytes(gzip.compress(tar_of(saved()))[:-20])
    with pytest.raises(ScarError, match="ends in the middle"):
        opened(path, tmp_path)


def test_a_header_that_announces_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 4 << 30
    path = tmp_path / "x.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(ScarError, match="tar header"):
        opened(path, tmp_path)


def test_an_archive_of_several_images_is_refused_with_their_names(tmp_path: Path) -> None:
    files = saved()
    (entry,) = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps([entry, entry | {"RepoTags": ["y:2"]}]).encode()
    with pytest.raises(ScarError, match=r"2 images \(x:latest, y:2\)"):
        opened(write_tar(tmp_path / "x.tar", files), tmp_path)


def test_a_layer_that_unpacks_to_something_else_than_the_configuration_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScarError):
        opened(write_tar(tmp_path / "x.tar", saved(diff_id=digest_of(b"other"))), tmp_path)
    assert not list((tmp_path / "cache" / "layers").glob("*/layer.tar.gz"))


def test_a_pipe_or_a_missing_file_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="cannot be read"):
        opened(tmp_path / "none.tar", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ScarError, match="neither a file nor a directory"):
        opened(tmp_path / "pipe", tmp_path)


def test_exactly_one_source_is_named(tmp_path: Path) -> None:
    for image, file in ((None, None), ("scratch", tmp_path)):
        with pytest.raises(UsageError):
            open_image(image, file, architecture=ARCHITECTURE, cache=tmp_path)


def test_scratch_is_a_small_image_with_the_same_digest_every_time(tmp_path: Path) -> None:
    images = [open_image("scratch", None, architecture=ARCHITECTURE, cache=tmp_path) for _ in range(2)]
    assert images[0].digest == images[1].digest
    assert images[0].size < 4096
    with tarfile.open(fileobj=io.BytesIO(bytes_of(images[0].layers[0]))) as tar:
        assert tar.getmember("tmp").mode == 0o1777
    assert "PATH=/usr/local/bin:/usr/bin:/bin" in read_config(images[0])["config"]["Env"]


def test_what_was_not_used_for_a_month_leaves_the_cache(tmp_path: Path) -> None:
    old = tmp_path / "cache" / "layers" / "old"
    write_directory(old, {"lock": b"", "layer.tar.gz": b"x"})
    write_directory(tmp_path / "cache" / "layers" / "new", {"lock": b"", "layer.tar.gz": b"x"})
    os.utime(old / "lock", (0, 0))
    opened(write_tar(tmp_path / "x.tar", saved()), tmp_path)
    names = {path.name for path in (tmp_path / "cache" / "layers").iterdir()}
    assert names == {"new", digest_of(PLAIN).replace(":", "-")}


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ScarError, match="cache cannot be used"):
        opened(write_tar(tmp_path / "x.tar", saved()), tmp_path)
