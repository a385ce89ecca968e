"""What the zip runtime asks of an image before anything is made: refusals that name what is in the way, and what to do."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from faassupervisor.contract import ImageProcess
from scar.errors import UsageError
from scar.limits import LAMBDA_TMP_MIB, MIB
from scar.package import oci
from scar.package.zips.programs import Streaming, judge
from scar.package.zips.scan import Scan

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LEAST_GLIBC: Final = (2, 14)  # what Debian 11's libfakechroot needs
# Programs built against 2.33 call stat(), which only Debian 12's libfakechroot knows of, and that one needs 2.34.
_UNHELD_GLIBC: Final = (2, 33)
_NAMED: Final = 10
_STEP_MIB: Final = 64
_FOR_INPUTS_BYTES: Final = 16 * MIB  # that the agent keeps free beside the image, at the least
_AS_AN_IMAGE: Final = "Write `runtime: image`, or remove the key: as a container image the function runs every program."


def expect_fit(found: Scan, *, function: str, image: str) -> None:
    """Raise UsageError unless fakechroot can hold every program of the image."""
    if found.unfit:
        named = ", ".join(f"{program.path} ({program.why})" for program in found.unfit[:_NAMED])
        more = f" and {len(found.unfit) - _NAMED} more" if len(found.unfit) > _NAMED else ""
        raise UsageError(
            f"the zip runtime cannot run these programs of {image}, which would not see the image's files: {named}{more}",
            where=function,
            fix=_AS_AN_IMAGE,
        )
    if found.loader is None or found.glibc is None:
        raise UsageError(
            f"the zip runtime needs an image with the GNU C library, and {image} has none",
            where=function,
            fix=_AS_AN_IMAGE,
        )
    version = tuple(int(part) for part in found.glibc.split("."))
    if version < _LEAST_GLIBC or version == _UNHELD_GLIBC:
        least, unheld = (".".join(map(str, each)) for each in (_LEAST_GLIBC, _UNHELD_GLIBC))
        raise UsageError(
            f"the zip runtime needs version {least} of the GNU C library or a later one, but not {unheld}; {image} has {found.glibc}",
            where=function,
            fix=_AS_AN_IMAGE,
        )


def expect_room(unpacked_bytes: int, *, tmp_mib: int, function: str, image: str) -> None:
    """Raise UsageError when the image would not fit into `/tmp` beside a run's files. The agent counts the same way."""
    needed = -(-(unpacked_bytes + unpacked_bytes // 8 + _FOR_INPUTS_BYTES) // MIB // _STEP_MIB) * _STEP_MIB
    if needed <= tmp_mib:
        return
    most = LAMBDA_TMP_MIB[1]
    fix = f"Set `ephemeral_storage: {needed}`, or more for larger files." if needed <= most else _AS_AN_IMAGE
    raise UsageError(
        f"{image} unpacks to {unpacked_bytes // MIB} MiB, for which {tmp_mib} MiB of `/tmp` are too few",
        where=function,
        fix=fix,
    )


def expect_program(
    found: Scan, process: ImageProcess, script: bytes | None, *, variables: Mapping[str, str], function: str, image: str
) -> None:
    """Raise UsageError when what will start is not in the image: the script's interpreter, or the image's own command."""
    environment = {**process.environment, **variables}
    folders = environment.get("PATH", DEFAULT_PATH).split(":")
    words = (*process.entrypoint, *process.command) if script is None else _interpreters(script, function)
    for word in words[:1] if script is None else words:
        if not _is_there(word, found, folders, process.working_directory):
            asks = "its own command starts with" if script is None else "the script asks for"
            raise UsageError(
                f"{asks} {word}, which is not in {image}",
                where=function,
                fix="Name another image, or another program."
                if script is None
                else "Name another image, or another interpreter in the script's first line.",
            )


def _interpreters(script: bytes, function: str) -> Sequence[str]:
    """The programs that a script's first line names: the interpreter, and what `env` is to find."""
    program = judge(Streaming(_Bytes(script).read, len(script)))
    if program.kind == "static":
        raise UsageError(
            "the script is a static program, which the zip runtime cannot run", where=function, fix=_AS_AN_IMAGE
        )
    if program.kind == "dynamic":
        return ()
    if program.kind != "script":
        return ("/bin/sh",)
    words = program.interpreter.split()
    if not words or posixpath.basename(words[0]) != "env":
        return words[:1]
    rest = words[1:]
    if rest and rest[0].startswith(("-S", "--split-string")):
        try:
            rest = shlex.split(" ".join(rest).removeprefix("-S").removeprefix("--split-string").removeprefix("="))
        except ValueError:
            return ()
        return rest[:1]
    return () if rest and (rest[0].startswith("-") or "=" in rest[0]) else rest[:1]


def _is_there(word: str, found: Scan, folders: Sequence[str], directory: str) -> bool:
    if "/" in word:
        return found.find(posixpath.join(directory or "/", word)) is not None
    return any(found.find(posixpath.join(directory or "/", folder, word)) for folder in folders)


class _Bytes:
    """Bytes as a stream."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def read(self, size: int) -> bytes:
        taken = self._content[self._at : self._at + size]
        self._at += len(taken)
        return taken


def expect_own(
    config: Mapping[str, object], process: ImageProcess, architecture: str, *, function: str, agent_root: str
) -> None:
    """Raise UsageError for an image of another architecture, or one that is a function's image already."""
    architecture = oci.architecture(architecture)
    system, machine = config.get("os"), config.get("architecture")
    if (system, machine) != ("linux", architecture):
        raise UsageError(
            f"the image is for {system}/{machine}, the function for linux/{architecture}",
            where=function,
            fix="Name an image of that architecture, or set `architectures` to the image's own.",
        )
    if process.entrypoint and process.entrypoint[0].startswith(agent_root + "/"):
        raise UsageError(
            "the image is already a function's image: its entry point is the agent",
            where=function,
            fix="Name the image that it was made from.",
        )
