"""The words about what there is, and about files in buckets."""

from __future__ import annotations

from pathlib import Path

from scar.arguments.parser import Command, Verbs, duration


def add(words: Verbs) -> None:
    ls = words.add(
        "ls",
        "list the functions, or the objects of a bucket",
        "scar ls\nscar ls -v\nscar ls -b my-bucket/output\nscar ls -o json --query '[].name'",
        _ls,
    )
    ls.add_argument("-b", "--bucket", metavar="BUCKET[/FOLDER]", help="list objects instead of functions")
    ls.add_argument(
        "-f",
        "--conf-file",
        type=Path,
        metavar="FILE",
        help="list the services of the OSCAR clusters that a definition names",
    )

    put = words.add(
        "put",
        "upload files and folders; this triggers the functions",
        "scar put -b my-bucket/input -p a.png\nscar put -b my-bucket/input -p photos -p more.png --wait --timeout 10m",
        _put,
    )
    put.add_argument("-b", "--bucket", required=True, metavar="BUCKET[/FOLDER]")
    put.add_argument(
        "-p",
        "--path",
        required=True,
        type=Path,
        action="append",
        help="a file, or a folder whose tree is kept; may be given several times",
    )
    put.add_argument("--dry-run", action="store_true", help="only tell what would be uploaded")
    put.add_argument(
        "--wait",
        action="store_true",
        help="wait until the runs that this starts have ended, and end with the exit code of the first that failed",
    )
    put.add_argument(
        "--timeout",
        type=duration,
        metavar="30s|10m|2h|3d",
        help="with --wait: give up after this long, with exit code 124 (default: never)",
    )

    get = words.add(
        "get",
        "download objects",
        "scar get -b my-bucket/output -p results\nscar get -b my-bucket/output/a.txt -p -",
        _get,
    )
    get.add_argument("-b", "--bucket", required=True, metavar="BUCKET[/FOLDER|/KEY]")
    get.add_argument(
        "-p",
        "--path",
        type=Path,
        default=Path(),
        help="folder to write to, below which each object has its whole key as its path (default: here); - writes one object to standard output",
    )
    get.add_argument("--force", action="store_true", help="overwrite files that are there and differ")
    get.add_argument("--dry-run", action="store_true", help="only tell what would be downloaded")


def _ls() -> Command:
    from scar.commands.ls import ls

    return ls


def _put() -> Command:
    from scar.commands.transfer import put

    return put


def _get() -> Command:
    from scar.commands.transfer import get

    return get
