"""Image files made by hand, and images really unpacked and run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.layer import Directory, File, layer_of


def unpack(image: oci.Image, root: Path) -> Path:
    """The image's files below `root`, which links in them cannot leave because our own images have none that would."""
    for layer in image.layers:
        content = b"".join(layer.blob.open())
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            tar.extraction_filter = lambda member, path: member  # absolute links are meant: the root will be theirs
            tar.extractall(root)
    return root


def run_inside(
    root: Path, *argv: str, environment: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program with `root` as its whole file system, as root or as an ordinary user."""
    prefix = ["chroot", str(root)] if os.geteuid() == 0 else ["unshare", "-Ur", "--root", str(root)]
    path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    # The launcher is found on our own PATH and hands on its environment, so `env` inside the new root is not needed.
    launcher = next(Path(d) / prefix[0] for d in ("/usr/sbin", "/usr/bin", "/bin") if (Path(d) / prefix[0]).exists())
    return subprocess.run(
        [str(launcher), *prefix[1:], *argv],
        env=path | (environment or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def config_of(*diff_ids: str, **settings: object) -> bytes:
    return json.dumps(
        {
            "architecture": host_architecture(),
            "os": "linux",
            "config": {"Env": ["PATH=/bin", "COLOUR=blue"], "Cmd": ["/bin/hello"], **settings},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        }
    ).encode()


def descriptor_of(content: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def small_layer(name: str = "bin/hello", content: bytes = b"hello") -> oci.Layer:
    return layer_of([Directory("bin"), File(name, content, 0o755)])


def bytes_of(layer: oci.Layer) -> bytes:
    return b"".join(layer.blob.open())
