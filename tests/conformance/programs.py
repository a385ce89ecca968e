"""The probe as a program of three kinds, compiled here: static, dynamic on musl, dynamic on an old glibc.

The compiler is Debian's tcc, run from where its package was unpacked: it links what it is told to, so no other C library is needed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.conformance.packages import OLD, STABLE, tree

_HERE: Final = Path(__file__).parent
_MUSL_LOADER: Final = "/lib/ld-musl-x86_64.so.1"
_GLIBC_LOADER: Final = "/lib64/ld-linux-x86-64.so.2"


def static_probe(out: Path) -> bytes:
    """Needs no loader and no library."""
    place = tree(STABLE, "musl-dev") / "usr/lib/x86_64-linux-musl"
    start, end = [place / "crt1.o", place / "crti.o"], [place / "libc.a", _compiler_library(), place / "crtn.o"]
    return _compile(out / "probe-static", "-static", *start, _HERE / "probe.c", *end)


def musl_probe(out: Path) -> bytes:
    place = tree(STABLE, "musl-dev") / "usr/lib/x86_64-linux-musl"
    library = tree(STABLE, "musl") / "lib/x86_64-linux-musl/libc.so"
    words = [place / "crt1.o", place / "crti.o", _HERE / "probe.c", library, _compiler_library(), place / "crtn.o"]
    return _compile(out / "probe-musl", *words, loader=_MUSL_LOADER)


def glibc_probe(out: Path) -> bytes:
    """Linked with Debian 11's library, so that it runs with every later one."""
    place = tree(OLD, "libc6-dev") / "usr/lib/x86_64-linux-gnu"
    library = tree(OLD, "libc6") / "lib/x86_64-linux-gnu/libc.so.6"
    end = [library, place / "libc_nonshared.a", _compiler_library(), place / "crtn.o"]
    return _compile(
        out / "probe-glibc", place / "crt1.o", place / "crti.o", _HERE / "probe.c", *end, loader=_GLIBC_LOADER
    )


def mark_library(out: Path) -> bytes:
    return _compile(out / "libmark.so", "-shared", _HERE / "mark.c")


def _compile(out: Path, *words: str | Path, loader: str = "") -> bytes:
    compiler = tree(STABLE, "tcc") / "usr/bin/tcc"
    argv = [compiler, f"-B{_compiler_library().parent}", "-nostdinc", "-nostdlib", *words, "-o", out]
    environment = {"LD_SO": loader} if loader else {}  # how tcc is told the loader of what it links
    subprocess.run([str(word) for word in argv], env=environment, check=True)
    return out.read_bytes()


def _compiler_library() -> Path:
    return tree(STABLE, "tcc") / "usr/lib/x86_64-linux-gnu/tcc/libtcc1.a"
