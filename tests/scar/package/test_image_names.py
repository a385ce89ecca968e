"""What the name of an image leads to: files by their tags, compressed in any way, and paths that start at the definition."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from scar.errors import NotFoundError, ScarError, UsageError
from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.derive import read_config
from scar.package.source import open_image
from scar.package.source.transports import Named, named
from tests.scar.package.images import bytes_of, config_of, digest_of, small_layer, tar_of
from tests.scar.package.test_image_source import PLAIN, layout, saved, write_directory, write_tar

HERE = Path("/definitions")
OTHER = "s390x"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("busybox", Named("registry", "busybox")),
        ("docker://busybox:1", Named("registry", "busybox:1")),
        ("docker:dind", Named("registry", "docker:dind")),
        ("localhost:5000/x", Named("registry", "localhost:5000/x")),
        ("docker-daemon:me/x:1", Named("docker-daemon", "me/x:1")),
        ("containers-storage:localhost/x", Named("containers-storage", "localhost/x")),
        ("oci:images/x:v1", Named("file", path=HERE / "images/x", wanted="v1")),
        ("oci:/abs", Named("file", path=Path("/abs"))),
        ("oci-archive:x.tar", Named("file", path=HERE / "x.tar")),
        ("docker-archive:../x.tar:me/x:1", Named("file", path=HERE / "../x.tar", wanted="me/x:1")),
    ],
)
def test_a_name_means_what_container_tools_mean_by_it(text: str, meaning: Named) -> None:
    assert named(text, HERE) == meaning


@pytest.mark.parametrize(
    "text", ["oci:", "docker-archive:", "oci-archive::v1", "docker-daemon:", "containers-storage:"]
)
def test_a_transport_needs_something_to_carry(text: str) -> None:
    with pytest.raises(UsageError, match="is not followed by"):
        named(text, HERE)


def opened(image: str, folder: Path) -> oci.Image:
    return open_image(image, None, architecture=host_architecture(), cache=folder / "cache", folder=folder)


def colour(image: oci.Image) -> object:
    return read_config(image)["config"].get("Labels", {}).get("colour")


def tagged(**colours: str) -> dict[str, bytes]:
    """A layout of images that differ in a label, each under its tag."""
    files: dict[str, bytes] = {}
    entries = []
    for tag, value in colours.items():
        one = layout(Labels={"colour": value})
        (entry,) = json.loads(one["index.json"])["manifests"]
        entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": tag}})
        files.update(one)
    return {**files, "index.json": json.dumps({"schemaVersion": 2, "manifests": entries}).encode()}


@pytest.mark.parametrize(
    ("write", "transport"), [(write_directory, "oci:images"), (write_tar, "oci-archive:images")], ids=["folder", "tar"]
)
def test_of_several_images_in_a_layout_the_tag_chooses(
    tmp_path: Path, write: Callable[[Path, dict[str, bytes]], Path], transport: str
) -> None:
    write(tmp_path / "images", tagged(one="blue", two="red"))
    assert colour(opened(f"{transport}:one", tmp_path)) == "blue"
    assert colour(opened(f"{transport}:two", tmp_path)) == "red"
    with pytest.raises(NotFoundError, match="no image is called 'three' here, only one, two"):
        opened(f"{transport}:three", tmp_path)
    with pytest.raises(ScarError, match=r"2 images \(one, two\): which one") as asked:
        opened(transport, tmp_path)
    assert "oci:FOLDER:one" in str(asked.value)


def test_a_tag_behind_a_whole_name_is_enough(tmp_path: Path) -> None:
    files = tagged(**{"docker.io/library/x:one": "blue", "docker.io/library/x:two": "red"})
    write_directory(tmp_path / "images", files)
    assert colour(opened("oci:images:two", tmp_path)) == "red"
    assert colour(opened("oci:images:docker.io/library/x:two", tmp_path)) == "red"


def test_two_tags_of_one_image_need_no_choice(tmp_path: Path) -> None:
    files = tagged(one="blue")
    (entry,) = json.loads(files["index.json"])["manifests"]
    other = {**entry, "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    platform = {"os": "linux", "architecture": host_architecture()}
    entries = [{**item, "platform": platform} for item in (entry, other)]
    files["index.json"] = json.dumps({"manifests": entries}).encode()
    write_directory(tmp_path / "images", files)
    assert colour(opened("oci:images", tmp_path)) == "blue"


def several(*architectures: str) -> dict[str, bytes]:
    """An archive of `docker save` with one image for each architecture, all of one name."""
    files: dict[str, bytes] = {"layer.tar": PLAIN}
    entries = []
    for number, architecture in enumerate(architectures):
        config = json.dumps({**json.loads(config_of(digest_of(PLAIN))), "architecture": architecture}).encode()
        files[f"{digest_of(config).removeprefix('sha256:')}.json"] = config
        name = f"{digest_of(config).removeprefix('sha256:')}.json"
        entries.append({"Config": name, "RepoTags": [f"docker.io/library/x:{number}"], "Layers": ["layer.tar"]})
    return {**files, "manifest.json": json.dumps(entries).encode()}


def test_of_several_saved_images_the_name_chooses(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", several(host_architecture(), OTHER))
    assert read_config(opened("docker-archive:x.tar:x:0", tmp_path))["architecture"] == host_architecture()
    assert read_config(opened("docker-archive:x.tar:docker.io/library/x:1", tmp_path))["architecture"] == OTHER
    with pytest.raises(NotFoundError, match=r"'x' here, only docker\.io/library/x:0"):
        opened("docker-archive:x.tar:x", tmp_path)


def test_of_the_platforms_that_docker_saved_together_ours_is_taken(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", several(OTHER, host_architecture()))
    assert read_config(opened("docker-archive:x.tar", tmp_path))["architecture"] == host_architecture()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": lambda content: zstandard.ZstdCompressor().compress(content),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "two members": lambda content: bz2.compress(content[:700]) + bz2.compress(content[700:]),
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_an_archive_may_be_compressed_as_docker_load_takes_it(tmp_path: Path, name: str) -> None:
    packed = COMPRESSIONS[name](tar_of(saved()))
    (tmp_path / "x.tar").write_bytes(packed)
    assert gzip.decompress(bytes_of(opened("docker-archive:x.tar", tmp_path).layers[0])) == PLAIN
    (tmp_path / "x.tar").write_bytes(packed[:-30])
    with pytest.raises(ScarError, match=r"ends in the middle|damaged|not a readable tar"):
        opened("docker-archive:x.tar", tmp_path)


def test_what_docker_wrote_before_1_10_is_told_as_such(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"repositories": b"{}", "abc/layer.tar": PLAIN, "abc/json": b"{}"})
    with pytest.raises(ScarError, match=r"older than 1\.10"):
        opened("docker-archive:x.tar", tmp_path)


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes_is_read_by_the_same_name(tmp_path: Path, transport: str) -> None:
    skopeo = shutil.which("skopeo")
    assert skopeo, "this test needs skopeo: apt-get install skopeo"
    layer = bytes_of(small_layer())
    write_directory(tmp_path / "first", layout(layer, platform={"os": "linux", "architecture": host_architecture()}))
    name = (
        f"{transport}:{tmp_path}/second:x:1" if transport == "docker-archive" else f"{transport}:{tmp_path}/second:v1"
    )
    subprocess.run(
        [skopeo, "--insecure-policy", "--tmpdir", str(tmp_path), "copy", f"oci:{tmp_path}/first", name],
        check=True,
        capture_output=True,
    )
    assert gzip.decompress(bytes_of(opened(name.replace(f"{tmp_path}/", ""), tmp_path).layers[0])) == PLAIN
