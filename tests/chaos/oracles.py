"""What must be the same, or nothing, after whatever was broken? Looks from outside at what is there, never by the product's own word.

`dump` is the account, `PutCount` how often each output was written, `Canaries` where a secret got to, `Leftovers` what of a run is still on
this machine.
"""

from __future__ import annotations

import base64
import gzip
import io
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.fault_proxy import FaultProxy
from tests.support.holdings import KINDS, Ask, pages


def dump(ask: Ask, kinds: Collection[str] = tuple(KINDS)) -> dict[str, Any]:
    """All that an account holds, as one value: equal values are equal accounts. `Local.client` is an `ask`."""
    return {kind: dict(sorted(KINDS[kind](ask))) for kind in kinds}


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """In which places two dumps differ, for an assertion that one can read."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            line
            for key in sorted({*before, *after}, key=str)
            for line in differences(before.get(key, "nothing"), after.get(key, "nothing"), f"{where}/{key}")
        ]
    return [] if before == after else [f"{where}: {before!r} -> {after!r}"]


@dataclass(frozen=True)
class PutCount:
    """How often each key of a bucket was written: by its versions, or by the writes that a proxy let through."""

    ask: Ask
    bucket: str

    def versions(self, folder: str = "") -> Counter[str]:
        """In a versioned bucket: nothing that was ever stored can hide, whoever wrote it and by which way."""
        found = pages(self.ask("s3"), "list_object_versions", "Versions", Bucket=self.bucket, Prefix=folder)
        return Counter(item["Key"] for item in found)

    def through(self, proxy: FaultProxy, folder: str = "") -> Counter[str]:
        """Writes that were applied, whether or not their answers came back. Parts of large objects count when they become one."""
        place = f"/{self.bucket}/{folder}"
        return Counter(
            call.path.partition("?")[0].removeprefix(f"/{self.bucket}/")
            for operation in ("PutObject", "CompleteMultipartUpload")
            for call in proxy.calls("s3", operation)
            if call.path.startswith(place) and (call.status is None or call.status == 200)
        )


@dataclass(frozen=True)
class Canaries:
    """Strings that exist nowhere else, planted as secrets. Each search answers `canary: place` for all that it finds."""

    planted: Mapping[str, str]

    def in_text(self, text: str | bytes, place: str) -> list[str]:
        content = text.encode() if isinstance(text, str) else text
        return [
            f"{name}: {place}" for name, value in self.planted.items() if any(form in content for form in forms(value))
        ]

    def in_files(self, *folders: Path) -> list[str]:
        """Of every file below, also what is packed in it: gzip, zip, tar."""
        return [
            line
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
            for content in opened(path)
            for line in self.in_text(content, str(path))
        ]

    def in_command_lines(self) -> list[str]:
        return [line for path, content in _of_processes("cmdline") for line in self.in_text(content, path)]

    def in_environments(self, marker: str) -> list[str]:
        """Of the processes whose command line or environment has `marker`."""
        found = dict(_of_processes("cmdline"))
        return [
            line
            for path, content in _of_processes("environ")
            if marker.encode() in content + found.get(path.replace("environ", "cmdline"), b"")
            for line in self.in_text(content, path)
        ]

    def in_buckets(self, ask: Ask) -> list[str]:
        s3 = ask("s3")
        return [
            line
            for bucket in s3.list_buckets()["Buckets"]
            for item in pages(s3, "list_objects_v2", "Contents", Bucket=bucket["Name"])
            for line in self.in_text(
                item["Key"].encode() + s3.get_object(Bucket=bucket["Name"], Key=item["Key"])["Body"].read(),
                f"s3://{bucket['Name']}/{item['Key']}",
            )
        ]


def forms(secret: str) -> Iterator[bytes]:
    """As it is, and as base64 would have it wherever it stands in a longer text."""
    yield secret.encode()
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + secret.encode())
        yield coded[4:-4]


def opened(path: Path) -> Iterator[bytes]:
    """A file's content, and what is packed in it."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:  # it was a temporary one
        return
    yield raw
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
        yield raw
    if zipfile.is_zipfile(io.BytesIO(raw)):
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            yield from (packed.read(name) for name in packed.namelist())
    elif raw[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            for member in archive:
                if member.isreg() and (content := archive.extractfile(member)) is not None:
                    yield content.read()


def _of_processes(file: str) -> Iterator[tuple[str, bytes]]:
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        try:
            yield str(path), path.read_bytes()
        except OSError:  # it has ended, or is not ours
            continue


@dataclass(frozen=True)
class Leftovers:
    """What of one local AWS is on this machine: everything that has `state`, its folder, in its name, and all in `temporary`, its own TMPDIR.

    Other tests run at the same time; so what they have is not looked at.
    """

    state: Path
    temporary: Path

    def processes(self) -> list[str]:
        """Of the daemon's kin, all but the daemon itself."""
        found = []
        for path, content in _of_processes("cmdline"):
            pid = int(Path(path).parent.name)
            line = content.replace(b"\0", b" ").decode(errors="replace")
            if pid != os.getpid() and str(self.state) in line and "scar.local.daemon" not in line:
                found.append(line)
        return sorted(found)

    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.state) in line]

    def network_namespaces(self, daemon: int) -> int:
        """Of the daemon's descendants, how many have a network of their own."""
        own = _link(f"/proc/{daemon}/ns/net")
        return len({_link(f"/proc/{pid}/ns/net") for pid in _descendants(daemon)} - {own, ""})

    def files(self) -> list[str]:
        """All that lies in the folder for temporary files."""
        return sorted(str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*"))

    def descriptors(self, daemon: int) -> int:
        return len(list(Path(f"/proc/{daemon}/fd").iterdir()))

    def uploads(self, ask: Ask) -> list[str]:
        """Multipart uploads that were neither finished nor given up."""
        s3 = ask("s3")
        return [
            f"{bucket['Name']}/{item['Key']}"
            for bucket in s3.list_buckets()["Buckets"]
            for item in pages(s3, "list_multipart_uploads", "Uploads", Bucket=bucket["Name"])
        ]


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


def _descendants(pid: int) -> Iterator[int]:
    parents: dict[int, list[int]] = {}
    for path, content in _of_processes("stat"):
        status = content.rpartition(b")")[2].split()
        parents.setdefault(int(status[1]), []).append(int(Path(path).parent.name))
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        yield from children
        waiting += children
