"""The words about what there is, and about files in buckets."""

from __future__ import annotations

from pathlib import Path

from scar.arguments.parser import Command, Verbs


def add(words: Verbs) -> None:
    ls = words.add("ls", "list the functions, or the objects of a bucket", "scar ls\nscar ls -b my-bucket/output", _ls)
    ls.add_argument("-b", "--bucket", metavar="BUCKET[/FOLDER]", help="list objects instead of functions")

    put = words.add(
        "put", "upload a file or a folder; this triggers the functions", "scar put -b my-bucket/input -p a.png", _put
    )
    put.add_argument("-b", "--bucket", required=True, metavar="BUCKET[/FOLDER]")
    put.add_argument("-p", "--path", required=True, type=Path, help="a file, or a folder whose tree is kept")

    get = words.add("get", "download objects", "scar get -b my-bucket/output -p results", _get)
    get.add_argument("-b", "--bucket", required=True, metavar="BUCKET[/FOLDER|/KEY]")
    get.add_argument("-p", "--path", type=Path, default=Path(), help="folder to write to (default: here)")


def _ls() -> Command:
    from scar.commands.ls import ls

    return ls


def _put() -> Command:
    from scar.commands.transfer import put

    return put


def _get() -> Command:
    from scar.commands.transfer import get

    return get
