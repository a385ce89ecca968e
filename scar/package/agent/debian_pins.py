"""A maintainer's command: `python -m scar.package.agent.debian_pins` writes debian_packages.json for Debian's releases as they are now.

Asks apt with a private state, so it needs no root and changes nothing on the machine; checks the archive's signatures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from scar.errors import ScarError
from scar.package.agent.debian import PINS, Group, mirrors

ARCHITECTURES: Final = ("amd64", "arm64")
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITES: Final = {
    Group.PYTHON: "bookworm",
    Group.FAKECHROOT_DEBIAN_11: "bullseye",
    Group.FAKECHROOT_DEBIAN_12: "bookworm",
}
# What the program, the extension modules that are kept, and their libraries need (DT_NEEDED); libgcc-s1 is opened by libc6.
NAMES: Final = {
    Group.PYTHON: (
        "libbz2-1.0", "libc6", "libcrypt1", "libexpat1", "libffi8", "libgcc-s1", "liblzma5", "libpython3.11-minimal",
        "libpython3.11-stdlib", "libsqlite3-0", "libssl3", "libuuid1", "python3.11-minimal", "zlib1g",
    ),
    Group.FAKECHROOT_DEBIAN_11: ("libfakechroot",),
    Group.FAKECHROOT_DEBIAN_12: ("libfakechroot",),
}  # fmt: skip


def pins() -> Mapping[str, Any]:
    """The document: group → architecture → packages."""
    return {
        group.value: {architecture: _listed(group, architecture) for architecture in ARCHITECTURES} for group in Group
    }


def _listed(group: Group, architecture: str) -> list[Mapping[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        options = _private_apt(Path(folder), SUITES[group], architecture)
        _run("apt-get", *options, "update")
        return [_pin(name, _run("apt-cache", *options, "show", "--no-all-versions", name)) for name in NAMES[group]]


def _private_apt(folder: Path, suite: str, architecture: str) -> list[str]:
    for name in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirrors()[0]} {suite} main\n")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::preferences": folder / "none",
        "Dir::Etc::preferencesparts": folder / "parts",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _pin(name: str, record: str) -> Mapping[str, Any]:
    fields = dict(line.split(": ", 1) for line in record.split("\n\n", maxsplit=1)[0].splitlines() if ": " in line[1:])
    try:
        return {
            "name": name,
            "version": fields["Version"],
            "path": fields["Filename"],
            "sha256": fields["SHA256"],
            "size_bytes": int(fields["Size"]),
        }
    except KeyError as error:
        raise ScarError(f"apt does not tell {error} of {name}") from error


def _run(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ScarError(f"{argv[0]} failed: {getattr(error, 'stderr', '') or error}") from error


def main() -> int:
    try:
        PINS.write_text(json.dumps(pins(), indent=2) + "\n")
    except ScarError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{PINS}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
