"""Deployment packages that strangers made: SCENARIOS SE7 for zips, one crafted archive per way out."""

from __future__ import annotations

import os
import stat
import struct
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packages import Member, archive, folder, link, member

from scar.local.functions.unzip import UNZIPPED_BYTES, BadCodeError, unzip

NO_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY = "Uploaded file must be a non-empty zip"
TOO_LARGE = "Unzipped size must be smaller than 262144000 bytes"
END = b"PK\5\6" + bytes(18)


class Unzipper:
    def __init__(self, base: Path) -> None:
        self.base = base
        (base / "outside").mkdir(parents=True)
        (base / "outside/victim").write_text("untouched")
        self.root = base / "content"

    def __call__(self, content: bytes) -> int:
        path = self.base / "package.zip"
        path.write_bytes(content)
        self.root.mkdir()
        return unzip(path, self.root)

    def names(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    def assert_nothing_escaped(self) -> None:
        assert {path.name for path in self.base.iterdir()} <= {"outside", "package.zip", "content"}
        assert [path.name for path in (self.base / "outside").iterdir()] == ["victim"]
        assert (self.base / "outside/victim").read_text() == "untouched"


@pytest.fixture
def unzipped(tmp_path: Path) -> Iterator[Unzipper]:
    made = Unzipper(tmp_path / "base")
    yield made
    made.assert_nothing_escaped()


def test_content_modes_times_and_links_come_out_as_they_went_in(unzipped: Unzipper) -> None:
    size = unzipped(
        archive(
            [
                member("bin/run", "#!/bin/sh\n", mode=0o755),
                member("private.txt", "x", mode=0o600),
                folder("shut", 0o500),
                link("current", "bin/run"),
                link("deep/up", "../bin"),
                member("plain", b"p" * 70_000, method=0),
            ]
        )
    )
    root = unzipped.root
    assert size == 10 + 1 + 70_000
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("bin/run", "private.txt", "bin", "shut")}
    assert modes == {"bin/run": 0o755, "private.txt": 0o600, "bin": 0o755, "shut": 0o700}
    assert (root / "current").readlink() == Path("bin/run")
    assert (root / "deep/up/run").read_text() == "#!/bin/sh\n"
    assert time.gmtime((root / "plain").stat().st_mtime)[:6] == (2024, 1, 2, 3, 4, 6)


def test_what_says_nothing_of_modes_and_days_gets_sensible_ones(unzipped: Unzipper) -> None:
    file, within = zipfile.ZipInfo("dos.txt"), zipfile.ZipInfo("made/by/")
    file.external_attr, within.external_attr = 0x20, 0x10  # as Windows writes them: "archive" and "folder", no modes
    unzipped(archive([(file, b"x"), (within, b"")]).replace(struct.pack("<HH", 0, 0x21), struct.pack("<HH", 0, 0)))
    modes = [stat.S_IMODE((unzipped.root / name).stat().st_mode) for name in ("dos.txt", "made", "made/by")]
    assert modes == [0o644, 0o755, 0o755]
    assert (unzipped.root / "dos.txt").stat().st_mtime == 315_532_800


TAKEN: dict[str, tuple[list[Member], set[str]]] = {
    "folders that are not named": ([member("a/b/c")], {"a", "a/b", "a/b/c"}),
    "dots and slashes": ([member("./a//b/./c")], {"a", "a/b", "a/b/c"}),
    "backslashes are no slashes": ([member("..\\evil")], {"..\\evil"}),
    "names that differ in case": ([member("A"), member("a")], {"A", "a"}),
    "names of many kinds": ([member("ñ €"), member("a\nb"), member("-rf"), member("~")], {"ñ €", "a\nb", "-rf", "~"}),
    "a link outside is a link": ([link("out", "/etc/passwd"), link("up", "../outside")], {"out", "up"}),
    "a file over a link": ([link("a", "../outside/victim"), member("a", "x")], {"a"}),
    "a link over a file": ([member("a", "x"), link("a", "b")], {"a"}),
    "a folder twice": ([folder("a"), folder("a"), member("a/b")], {"a", "a/b"}),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_is_strange_but_harmless_is_unpacked(unzipped: Unzipper, case: str) -> None:
    members, expected = TAKEN[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's, of names that come twice
        content = archive(members)
    unzipped(content)
    assert unzipped.names() == expected


def test_of_two_entries_with_one_name_the_later_counts(unzipped: Unzipper) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        content = archive([member("a", "first"), member("a", "second")])
    assert unzipped(content) == len("firstsecond")
    assert (unzipped.root / "a").read_text() == "second"


def encrypted() -> bytes:
    """Says so in both headers."""
    content = bytearray(archive([member("secret", "x")]))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + at] |= 1
    return bytes(content)


def lying(declared: int) -> bytes:
    """Deflated zeros of more bytes than either header tells."""
    content = bytearray(archive([member("zeros", bytes(3_000_000))]))
    for mark, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(mark) + at, declared)
    return bytes(content)


def large_directory() -> bytes:
    return bytes(40 << 20) + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 9, 9, 40 << 20, 0, 0)


REFUSED: dict[str, tuple[bytes | list[Member], str]] = {
    "nothing": (b"", EMPTY),
    "a zip of nothing": (END, EMPTY),
    "no zip": (b"not a zip at all" * 20, NO_ZIP),
    "a gzip": (b"\x1f\x8b\x08" + bytes(100), NO_ZIP),
    "cut short": (archive([member("a", os.urandom(5000))])[:3000], NO_ZIP),
    "dotdot": ([member("../evil")], "leads out"),
    "dotdot inside": ([member("a/../../evil")], "leads out"),
    "absolute": ([member("/evil")], "leads out"),
    "no name": ([member("/")], "leads out"),
    "through a link": ([link("a", "../outside"), member("a/evil", "x")], "folder and a link"),
    "a link behind a link": ([link("a", "../outside"), link("a/evil", "x")], "behind a link"),
    "a link behind a link behind": ([link("a", ".."), link("a/b/evil", "x")], "behind a link"),
    "a link to nothing": ([link("a", "")], "link to nothing"),
    "a link too long": ([link("a", "x" * 5000)], "link to nothing"),
    "a link over a folder": ([member("a/b"), link("a", "x")], "folder and a link"),
    "a file where a folder is": ([member("a/b"), member("a")], "twice"),
    "a folder where a file is": ([member("a"), member("a/b")], "twice"),
    "a device": ([member("a", kind=stat.S_IFCHR)], "neither file"),
    "a pipe": ([member("a", kind=stat.S_IFIFO)], "neither file"),
    "a name too long": ([member("n" * 300)], "no name"),
    "too deep": ([member("d/" * 300 + "x")], "too deep"),
    "encrypted": (encrypted(), "encrypted"),
    "bzip2": ([member("a", "x", method=zipfile.ZIP_BZIP2)], "other means than deflate"),
    "lzma": ([member("a", "x", method=zipfile.ZIP_LZMA)], "other means than deflate"),
    "a wrong check sum": (archive([member("a", b"abc" * 9, method=0)]).replace(b"abcabc", b"abcabd", 1), NO_ZIP),
    "sizes that lie": (lying(10), NO_ZIP),
    "a directory of 40 MiB": (large_directory(), "directory is too large"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_contained_is_refused_in_lambdas_words(unzipped: Unzipper, case: str) -> None:
    content, expected = REFUSED[case]
    with pytest.raises(BadCodeError, match=r"\(|zip|Unzipped") as refused:
        unzipped(content if isinstance(content, bytes) else archive(content))
    assert expected in str(refused.value)
    assert str(refused.value).startswith((NO_ZIP, EMPTY, TOO_LARGE))


def test_a_bomb_is_refused_before_it_is_written_whether_its_size_is_told_or_not(
    unzipped: Unzipper, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as writer, writer.open("zeros", "w") as file:
        for _ in range(UNZIPPED_BYTES // (1 << 20) + 1):
            file.write(bytes(1 << 20))
    content = bomb.read_bytes()
    assert len(content) < 3 << 20
    begun = time.monotonic()
    with pytest.raises(BadCodeError, match=TOO_LARGE):
        unzipped(content)
    assert time.monotonic() - begun < 1
    assert unzipped.names() == set()


def test_entries_that_share_their_bytes_count_each(tmp_path: Path) -> None:
    """The 42 kB that become gigabytes: one stretch of the file, told as many members."""
    made = Unzipper(tmp_path / "base")
    single = archive([member("a", bytes(20 << 20))])
    directory = single[single.index(b"PK\1\2") : single.index(b"PK\5\6")]
    entries = b"".join(directory[:-1] + bytes([letter]) for letter in range(ord("a"), ord("a") + 14))
    start = single.index(b"PK\1\2")
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 14, 14, len(entries), start, 0)
    with pytest.raises(BadCodeError, match=f"{TOO_LARGE}|{NO_ZIP[:20]}"):
        made(single[:start] + entries + end)
    made.assert_nothing_escaped()


PART = st.sampled_from(["a", "b", "..", ".", "", "l"])
NAME = st.lists(PART, min_size=1, max_size=4).map("/".join).filter(bool)
TARGET = st.lists(st.sampled_from(["a", "..", "l", "", "outside", "victim"]), min_size=1, max_size=5).map("/".join)
MEMBER = st.one_of(NAME.map(member), NAME.map(folder), st.builds(link, NAME, TARGET))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.lists(MEMBER, min_size=1, max_size=8))
def test_no_sequence_of_entries_leaves_the_folder(
    tmp_path_factory: pytest.TempPathFactory, members: list[Member]
) -> None:
    base = Unzipper(tmp_path_factory.mktemp("any") / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        content = archive(members)
    try:
        base(content)
    except BadCodeError as refused:
        assert str(refused).startswith((NO_ZIP, EMPTY))
    base.assert_nothing_escaped()
