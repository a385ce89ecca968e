"""A release's step: `python -m scar.package.agent.bundle [--architecture amd64|arm64] [--cache DIR] [FOLDER]`.

Writes what `shipped` reads, from the pinned Debian packages, into the package's own folder (or FOLDER), so that a wheel or a
source archive that is made afterwards ships it. The same sources and client libraries give the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from scar.errors import ScarError
from scar.package.agent import Origin, built_layer, fakechroot, shipped, source_digest
from scar.package.cache import written_whole
from scar.package.layer import Digests
from scar.package.progress import Tell, ignore

ARCHITECTURES = ("amd64", "arm64")


def write(architecture: str, folder: Path, *, cache: Path, tell: Tell = ignore) -> None:
    """Make what a release ships for one architecture; its record is written last, so half of it is never used."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped.record_path(architecture, folder).unlink(missing_ok=True)
    agent = built_layer(architecture, Origin.DEBIAN, cache=cache, tell=tell)
    with written_whole(shipped.agent_path(architecture, folder)) as out:
        for chunk in agent.layer.blob.open():
            out.write(chunk)
    libraries = fakechroot.built_libraries(architecture, cache=cache, tell=tell)
    for least, content in libraries.items():
        with written_whole(shipped.fakechroot_path(architecture, least, folder)) as out:
            out.write(content)
    descriptor = agent.layer.blob.descriptor
    record = {
        "sources": source_digest(),
        "version": agent.version,
        "entrypoint": agent.entrypoint,
        "digests": dataclasses.asdict(Digests(descriptor.digest, descriptor.size, agent.layer.diff_id)),
        "packages": fakechroot.package_digest(architecture),
        "fakechroot": {least: hashlib.sha256(content).hexdigest() for least, content in libraries.items()},
    }
    with written_whole(shipped.record_path(architecture, folder)) as out:
        out.write(json.dumps(record, indent=2).encode() + b"\n")
    for path in folder.iterdir():
        path.chmod(0o644)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scar.package.agent.bundle", description="Make what a release ships."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=shipped.FOLDER, help="default: the package's own")
    parser.add_argument("--architecture", choices=ARCHITECTURES, action="append", help="default: both")
    parser.add_argument("--cache", type=Path, default=Path("build/bundle"), help="default: build/bundle")
    args = parser.parse_args(argv)
    try:
        for architecture in args.architecture or ARCHITECTURES:
            write(architecture, args.folder.absolute(), cache=args.cache.absolute())
            sys.stdout.write(f"{shipped.record_path(architecture, args.folder)}\n")
    except ScarError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
