"""The words of `scar image`."""

from __future__ import annotations

import argparse
from pathlib import Path

from scar.arguments.parser import Command, Verbs, definition


def add(verbs: Verbs) -> None:
    words = verbs.group(
        "image",
        "container images: inspect, derive, push, prune",
        "Container images: what is in one, what SCAR makes of it, and what is kept of them on this machine.",
        "scar image inspect debian:12",
        _image,
    )

    inspect = words.add(
        "inspect",
        "tell what an image is, what will run, and whether Lambda takes it; needs no account",
        "scar image inspect debian:12\nscar image inspect -f function.yaml --scan",
    )
    inspect.add_argument(
        "image", nargs="?", metavar="IMAGE", help="as `container.image` has it, or the path of an archive or a layout"
    )
    inspect.add_argument("-f", "--conf-file", type=Path, metavar="FILE", help="the images of this definition file")
    inspect.add_argument("-n", "--name", help="only this function of the file")
    inspect.add_argument(
        "--architecture", type=_architecture, metavar="x86_64|arm64", help="for which processor (default: x86_64)"
    )
    inspect.add_argument(
        "--scan", action="store_true", help="read every layer too: unpacked size, and whether a zip runtime can run it"
    )

    derive = words.add(
        "derive",
        "make the images of functions, and send nothing; needs no account",
        "scar image derive -f function.yaml\nscar image derive -f function.yaml --to function.tar",
    )
    definition(derive)
    derive.add_argument(
        "--to",
        metavar="FILE.tar|DIR/|docker-archive:FILE",
        help="write the image: an OCI archive, an OCI layout, or what `docker load` takes",
    )

    push = words.add(
        "push",
        "push the images of functions to their repositories, or one to any registry; prints what they are then called",
        "scar image push -f function.yaml\nscar image push -f function.yaml --to registry.example/team/cow:1",
    )
    definition(push)
    push.add_argument("--to", metavar="REFERENCE", help="another place than the function's own repository in ECR")

    prune = words.add(
        "prune",
        "remove what SCAR keeps of images on this machine; what is in use stays",
        "scar image prune --dry-run\nscar image prune --max-size 500MB",
    )
    bound = prune.add_mutually_exclusive_group()
    bound.add_argument(
        "--max-size",
        type=_bytes,
        default=2_000_000_000,
        metavar="SIZE",
        help="keep the most recently used, up to this size (default: 2GB)",
    )
    bound.add_argument("-a", "--all", action="store_true", help="keep nothing")
    prune.add_argument("--dry-run", action="store_true", help="only tell what would be removed")


def _architecture(text: str) -> str:
    names = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
    if text.lower() not in names:
        raise argparse.ArgumentTypeError(f"{text!r} is neither x86_64 nor arm64")
    return names[text.lower()]


def _bytes(text: str) -> int:
    """`500MB`, `1.5 GiB`, `4096`."""
    number = text.rstrip("BbiIkKMmGgTt ")
    unit = text[len(number) :].strip().upper().removesuffix("B")
    power = " KMGT".find(unit.removesuffix("I") or " ")
    base = 1024 if unit.endswith("I") else 1000
    if not number.replace(".", "", 1).isdecimal() or not number.isascii() or power < 0 or unit == "I":
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 500MB or 2GiB")
    return int(float(number) * base**power)


def _image() -> Command:
    from scar.commands.image import image

    return image
