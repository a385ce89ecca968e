"""Does an engine really run something? A root with one tiny static program, written here byte by byte, and one run of it."""

from __future__ import annotations

import os
import secrets
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from scar.errors import ScarError
from scar.local.sandbox.spec import Sandbox, SandboxSpec

_ANSWER: Final = b"a sandbox of SCAR\n"
_EXIT_CODE: Final = 7
_RUN_S: Final = 30.0
_HEADERS_BYTES: Final = 64 + 56
_LOAD_ADDRESS: Final = 0x400000


def _x86_64(text_bytes: int) -> bytes:
    """write(1, text, …); exit(7). The text follows the code, 17 bytes after `lea` ends."""
    code = b"\xb8\x01\x00\x00\x00" + b"\xbf\x01\x00\x00\x00" + b"\x48\x8d\x35\x13\x00\x00\x00"
    code += b"\xba" + struct.pack("<I", text_bytes) + b"\x0f\x05"
    return code + b"\xb8\x3c\x00\x00\x00" + b"\xbf" + struct.pack("<I", _EXIT_CODE) + b"\x0f\x05"


def _aarch64(text_bytes: int) -> bytes:
    """The same: movz x0, 1; adr x1, text; movz x2, n; movz x8, 64; svc; movz x0, 7; movz x8, 93; svc."""

    def movz(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    supervisor_call = 0xD4000001
    adr_x1 = 0x10000000 | 7 << 5 | 1  # seven instructions on
    words = (
        movz(0, 1),
        adr_x1,
        movz(2, text_bytes),
        movz(8, 64),
        supervisor_call,
        movz(0, _EXIT_CODE),
        movz(8, 93),
        supervisor_call,
    )
    return struct.pack("<8I", *words)


_MACHINES: Final[Mapping[str, tuple[int, Callable[[int], bytes]]]] = {
    "x86_64": (62, _x86_64),
    "aarch64": (183, _aarch64),
}


def tiny_program(machine: str) -> bytes:
    """A static ELF executable that says a word and exits with 7."""
    if machine not in _MACHINES:
        raise ScarError(f"sandboxes are not supported on {machine}", fix=f"Supported are {', '.join(_MACHINES)}.")
    number, assemble = _MACHINES[machine]
    body = assemble(len(_ANSWER)) + _ANSWER
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    size, entry = _HEADERS_BYTES + len(body), _LOAD_ADDRESS + _HEADERS_BYTES
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, entry, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x10000)
    return header + segment + body


def make_probe_root(scratch: Path) -> Path:
    """The probe's root below `scratch`, made whole at another name and then renamed, so that two processes may do it at once."""
    root = scratch / "probe-root"
    if (root / "answer").exists():
        return root
    made = scratch / f"probe-root-{secrets.token_hex(4)}"
    for name in ("proc", "dev", "tmp", "etc"):
        (made / name).mkdir(parents=True, exist_ok=True)
    for folder in (made, made / "tmp"):
        folder.chmod(0o1777 if folder.name == "tmp" else 0o755)
    program = made / "answer"
    program.write_bytes(tiny_program(os.uname().machine))
    program.chmod(0o755)
    try:
        made.rename(root)
    except OSError:  # another process was first
        shutil.rmtree(made)
    return root


def reason_against(start: Callable[[SandboxSpec], Sandbox], scratch: Path) -> str | None:
    """Run the program; what went otherwise than it should, or None."""
    try:
        spec = SandboxSpec(
            rootfs=make_probe_root(scratch), argv=("/answer",), environment={"PATH": "/bin"}, memory_mib=256
        )
        sandbox = start(spec)
    except ScarError as error:
        return error.what
    try:
        ended = sandbox.wait(_RUN_S)
    finally:
        sandbox.kill()
    if ended is None:
        return f"a small program did not end within {_RUN_S:.0f} s"
    with sandbox.output as pipe:
        said = pipe.read(10_000)
    if ended.exit_code != _EXIT_CODE or _ANSWER not in said:
        return f"a small program ended with {ended.exit_code} instead of {_EXIT_CODE}: {said.decode(errors='replace').strip()[:500]}"
    return None
