"""Images that are not in the local ECR are fetched from where their name says, once for each time that they have to be unpacked."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from scar.local.batch.images import ImageError, Images, user_in
from scar.local.registry import RegistryData
from scar.local.rootfs import RootfsStore
from scar.package.oci import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from tests.local.functions.lambda_bench import _Quiet, layer


class Elsewhere:
    """A registry with one image, that writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.blobs: dict[str, bytes] = {}
        one = layer({"etc/passwd": b"alice:x:7:8::/:/bin/sh\n", "etc/group": b"staff:x:9:\n"})
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["it"], "User": "alice"},
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id]},
        }
        self.manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._kept(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [self._kept(one.content, OCI_LAYER_GZIP)],
        }
        self._kept(json.dumps(self.manifest).encode(), OCI_MANIFEST)
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.name = f"127.0.0.1:{self.server.server_port}/team/tool:v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def _kept(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        last = environ["PATH_INFO"].rpartition("/")[2]
        self.asked.append(last)
        content = json.dumps(self.manifest).encode() if last == "v1" else self.blobs.get(last)
        kind = OCI_MANIFEST if last == "v1" else "application/octet-stream"
        start_response("404 Not Found" if content is None else "200 OK", [("Content-Type", kind)])
        return [content or b"{}"]


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    made = Elsewhere()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(RegistryData(tmp_path / "registry"), RootfsStore(tmp_path / "rootfs"), tmp_path / "images")


def test_an_image_of_another_registry_is_fetched_and_its_layers_only_once(
    images: Images, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    layer_digest = elsewhere.manifest["layers"][0]["digest"]
    for _ in range(2):
        taken = images.take(elsewhere.name)
        assert taken.process.command == ("it",)
        assert (taken.held.path / "etc/passwd").exists()
        assert user_in(taken.held.path, taken.user).uid == 7
        taken.held.close()
    assert elsewhere.asked.count(layer_digest) == 1
    assert list((tmp_path / "images").iterdir()) == []


def test_a_layer_that_is_not_what_it_is_called_is_refused(images: Images, elsewhere: Elsewhere, tmp_path: Path) -> None:
    digest = elsewhere.manifest["layers"][0]["digest"]
    elsewhere.blobs[digest] = elsewhere.blobs[digest][:-1] + b"x"
    with pytest.raises(ImageError, match="CannotPullContainerError"):
        images.take(elsewhere.name)
    assert list((tmp_path / "images").iterdir()) == []


def test_what_is_not_there_or_is_no_name_cannot_be_pulled(images: Images, elsewhere: Elsewhere) -> None:
    for name in (elsewhere.name.replace("v1", "v2"), "", "UPPER//case", "host/name@sha256:12"):
        with pytest.raises(ImageError, match="CannotPullContainerError"):
            images.take(name)


def test_a_user_is_found_in_the_image_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/etc/passwd")
    with pytest.raises(ImageError, match="unable to find user root"):
        user_in(tmp_path, "root")
    (tmp_path / "etc/group").write_text("staff:x:9:\n")
    assert user_in(tmp_path, "5:staff").gid == 9
    assert (user_in(tmp_path, "5").uid, user_in(tmp_path, "5").gid) == (5, 0)
    with pytest.raises(ImageError, match="unable to find group nobody"):
        user_in(tmp_path, "5:nobody")
