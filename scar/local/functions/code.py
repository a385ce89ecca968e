"""Where does the code of zip functions lie? Unpacked once for each SHA-256, below one folder; moto keeps the digest and no bytes.

A package is unpacked while it is being accepted, as AWS does, so that a bad one is refused by the call that brought it. What no
function and no layer version refers to any more is removed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scar.local.folders import DigestFolders, Held
from scar.local.functions.unzip import UNZIPPED_BYTES, BadCodeError, unzip

_GRACE_S: Final = 900.0  # a package that nothing refers to yet may be about to become a function's
_CONTENT: Final = "content"


@dataclass(frozen=True, slots=True)
class Code:
    """A deployment package or layer that was accepted: its bytes' SHA-256 (hex), their number, and how many they unpack to."""

    digest: str
    size: int
    unzipped_bytes: int

    @property
    def code_sha256(self) -> str:
        """As AWS tells it."""
        return base64.b64encode(bytes.fromhex(self.digest)).decode()


def digest_of(code_sha256: str) -> str:
    """AWS's form back to the hexadecimal one."""
    return base64.b64decode(code_sha256).hex()


class CodeStore:
    """`referred` answers the digests (hex) of every function version and layer version there is."""

    def __init__(self, folder: Path, *, referred: Callable[[], Iterable[str]] = tuple) -> None:
        self._folder, self._referred = folder, referred
        self._folders = DigestFolders(folder / "unzipped")
        self._arriving = folder / "arriving"
        shutil.rmtree(self._arriving, ignore_errors=True)  # of a daemon that was killed
        self._lock = threading.Lock()
        self._unreferred_since: dict[str, float] = {}

    def put(self, content: Iterable[bytes]) -> Code:
        """Take a zip, given in parts. Raises BadCodeError in Lambda's words; nothing of it is kept then."""
        self._arriving.mkdir(parents=True, exist_ok=True)
        arriving = self._arriving / secrets.token_hex(8)
        hashed, size = hashlib.sha256(), 0
        try:
            with arriving.open("xb", buffering=0) as file:
                for part in content:
                    hashed.update(part)
                    size += file.write(part)
            digest = hashed.hexdigest()
            with self._folders.use(digest, lambda making: _unzip(arriving, making)) as held:
                code = Code(digest, size, held.size)
        finally:
            arriving.unlink(missing_ok=True)
        self.collect()
        return code

    def use(self, digest: str) -> Held:
        """The unpacked package; LookupError when it is gone."""
        held = self._folders.use(digest, _absent)
        held.path = held.path / _CONTENT
        return held

    def use_together(self, digests: Sequence[str]) -> Held:
        """Several unpacked layers as one folder: where two have a file of one name, the later counts."""
        if len(digests) == 1:
            return self.use(digests[0])
        name = hashlib.sha256(" ".join(digests).encode()).hexdigest()
        held = self._folders.use(name, lambda making: self._merge(digests, making))
        held.path = held.path / _CONTENT
        return held

    def unzipped_bytes(self, digest: str) -> int:
        """Of one package; LookupError when it is gone."""
        with self._folders.use(digest, _absent) as held:
            return held.size

    def collect(self, *, grace_s: float = _GRACE_S) -> None:
        """Remove what has not been referred to for so long, and is not in use."""
        with self._lock:
            now, referred = time.monotonic(), set(self._referred())
            unreferred = [name for name in self._folders.names() if name not in referred]
            self._unreferred_since = {name: self._unreferred_since.get(name, now) for name in unreferred}
            young = {name for name, since in self._unreferred_since.items() if now - since < grace_s}
            self._folders.prune(keep=referred | young)

    def _merge(self, digests: Sequence[str], making: Path) -> int:
        merged, size = making / _CONTENT, 0
        merged.mkdir()
        merged.chmod(0o755)
        for digest in digests:
            with self.use(digest) as layer:
                size += layer.size
                _link_into(layer.path, merged)
        return size


def _unzip(archive: Path, making: Path) -> int:
    content = making / _CONTENT
    content.mkdir()
    content.chmod(0o755)
    return unzip(archive, content)


def _absent(making: Path) -> int:
    raise LookupError(f"the code {making.stem} is not here any more; deploy the function again")


def _link_into(source: Path, target: Path) -> None:
    """Everything of one folder into another, files as further names of themselves."""
    for folder, folders, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        if here.is_symlink() or (here.exists() and not here.is_dir()):
            here.unlink()
        if not here.exists():
            here.mkdir()
            here.chmod(Path(folder).stat().st_mode & 0o777 | 0o700)
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in (*files, *links):
            new = here / name
            if new.is_dir() and not new.is_symlink():
                raise BadCodeError(f"{name!r} is a folder in one layer and none in a later one")
            new.unlink(missing_ok=True)
            os.link(Path(folder, name), new, follow_symlinks=False)


def check_sizes(packages: Sequence[int]) -> None:
    """Raises BadCodeError when code and layers together are more than Lambda unpacks."""
    total = sum(packages)
    if total > UNZIPPED_BYTES:
        raise BadCodeError(
            f"Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_BYTES} bytes. "
            f"The actual size is {total} bytes."
        )
