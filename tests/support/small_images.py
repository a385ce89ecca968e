"""Images made in a test: of programs of this machine, or of ELF files that are nothing but their headers."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from scar.package import oci
from scar.package.agent import elf, host_architecture
from scar.package.derive import assemble
from scar.package.layer import Directory, Entry, File, Link, layer_of

LOADERS = {"amd64": "/lib64/ld-linux-x86-64.so.2", "arm64": "/lib/ld-linux-aarch64.so.1"}
LOADER = LOADERS[host_architecture()]
BANNER = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n\0"
_MACHINES = {"amd64": 62, "arm64": 183, "riscv64": 243}


def elf_file(
    interpreter: str = "", *, kind: int = 3, machine: str = host_architecture(), pie: bool = False, wide: bool = True
) -> bytes:
    """The headers of a program (`kind` 2 is ET_EXEC, 3 is ET_DYN) and what they point to; it cannot run."""
    form, header, step = ("IIQQQQQQ", 64, 56) if wide else ("IIIIIIII", 52, 32)
    segments, content = [], b""
    at = header + 2 * step
    if interpreter:
        text = interpreter.encode() + b"\0"
        segments.append((3, at + len(content), len(text)))
        content += text
    if pie:
        entry = struct.pack("<QQQQ" if wide else "<IIII", 0x6FFFFFFB, 0x08000000, 0, 0)
        segments.append((2, at + len(content), len(entry)))
        content += entry
    table = b""
    for segment, offset, size in segments:
        order = (segment, 4, offset, 0, 0, size, size, 1) if wide else (segment, offset, 0, 0, size, size, 4, 1)
        table += struct.pack("<" + form, *order)
    table = table.ljust(2 * step, b"\0")
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    fields = (kind, _MACHINES.get(machine, 3), 1, 0, header, 0, 0, header, step, len(segments), 0, 0, 0)
    return ident + struct.pack("<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH", *fields) + table + content


def glibc_files(version: bytes = b"2.36") -> list[Entry]:
    """What makes an image one with the GNU C library, as far as a scan can tell."""
    libc = elf_file() + b"." * 300_000 + BANNER.replace(b"2.36.", version + b".")
    folder = LOADER.rpartition("/")[0].lstrip("/")
    return [File(LOADER.lstrip("/"), elf_file(), 0o755), File(f"{folder}/libc.so.6", libc, 0o755)]


def image_of(*layers: Sequence[Entry], **settings: object) -> oci.Image:
    """A single-platform image for this machine."""
    made = tuple(layer_of(layer) for layer in layers)
    config = {
        "architecture": host_architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"], **settings},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in made]},
    }
    return assemble(config, made)


def real_programs(*names: str) -> list[Entry]:
    """Programs of this machine with the libraries that they need, as a merged-/usr Debian has them."""
    found: dict[str, bytes] = {}
    waiting = [Path(shutil.which(name) or f"/bin/{name}").resolve() for name in names]
    folders = [Path(LOADER).resolve().parent, Path("/usr/lib"), Path("/lib")]
    for name, place in zip(names, waiting, strict=True):
        found[f"usr/bin/{name}"] = place.read_bytes()
    while waiting:
        read = elf.read(waiting.pop().read_bytes(), "a program of this machine")
        for library in read.needed:
            place = next(folder / library for folder in folders if (folder / library).exists())
            if f"usr/lib/{library}" not in found:
                found[f"usr/lib/{library}"] = place.read_bytes()
                waiting.append(place)
    folder = LOADER.rpartition("/")[0].lstrip("/")
    found[f"usr/lib/{Path(LOADER).name}"] = Path(LOADER).read_bytes()
    links = {name: f"usr/{name}" for name in ("bin", "lib")} | ({folder: "usr/lib"} if folder != "lib" else {})
    return [
        Directory("tmp", 0o1777),
        *(Directory(path) for path in ("usr", "usr/bin", "usr/lib")),
        *(Link(path, target) for path, target in links.items()),
        *(File(path, content, 0o755) for path, content in found.items()),
    ]


def oci_layout(image: oci.Image, folder: Path) -> Path:
    """The image as a folder in the OCI layout."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    _write(blobs, image.digest, [image.manifest])
    for blob in (image.config, *(layer.blob for layer in image.layers)):
        _write(blobs, blob.descriptor.digest, blob.open())
    entry = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def _write(blobs: Path, digest: str, chunks: Iterable[bytes]) -> None:
    (blobs / digest.removeprefix("sha256:")).write_bytes(b"".join(chunks))
