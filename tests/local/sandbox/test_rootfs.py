"""Unpacking layers that strangers wrote: SCENARIOS SE7, one crafted archive per way out."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faassupervisor.layers.unpack import UnpackLimits
from scar.errors import ScarError
from scar.limits import MIB
from scar.local.rootfs import RootfsStore

Member = tuple[tarfile.TarInfo, bytes]
MADE = {"proc", "dev", "tmp", "etc", "sys"}


def file(name: str, content: bytes = b"content", mode: int = 0o644, **changes: object) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, 1_700_000_000
    for key, value in changes.items():
        setattr(member, key, value)
    return member, content


def folder(name: str, mode: int = 0o755) -> Member:
    return file(name, b"", mode, type=tarfile.DIRTYPE)


def link(name: str, target: str) -> Member:
    return file(name, b"", 0o777, type=tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> Member:
    return file(name, b"", type=tarfile.LNKTYPE, linkname=target)


def tar(members: Iterable[Member]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as writer:
        for member, content in members:
            writer.addfile(member, io.BytesIO(content))
    return archive.getvalue()


class Unpacker:
    def __init__(self, base: Path) -> None:
        self.base, self.count = base, 0
        self.outside = base / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "victim").write_text("untouched")
        self.store = base / "store"

    def layer(self, content: bytes) -> Path:
        self.count += 1
        path = self.base / f"layer-{self.count}.tar"
        path.write_bytes(content)
        return path

    def __call__(self, *layers: Iterable[Member] | bytes, limits: UnpackLimits | None = None) -> Path:
        paths = [self.layer(layer if isinstance(layer, bytes) else gzip.compress(tar(layer), 1)) for layer in layers]
        digest = f"sha256:{hashlib.sha256(str(self.count).encode()).hexdigest()}"
        return RootfsStore(self.store, limits=limits or UnpackLimits()).ensure(digest, paths)

    def assert_nothing_escaped(self) -> None:
        assert sorted(path.name for path in self.outside.iterdir()) == ["victim"]
        assert (self.outside / "victim").read_text() == "untouched"
        assert {path.name for path in self.base.iterdir()} - {"outside", "store"} == {
            f"layer-{n + 1}.tar" for n in range(self.count)
        }


@pytest.fixture
def unpack(tmp_path: Path) -> Iterable[Unpacker]:
    made = Unpacker(tmp_path / "base")
    yield made
    made.assert_nothing_escaped()


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")} - MADE - {"etc/hosts", "etc/resolv.conf"}


def test_files_folders_links_modes_and_times_come_out_as_they_went_in(unpack: Unpacker) -> None:
    root = unpack(
        [
            folder("bin"),
            file("bin/tool", b"#!", 0o755),
            link("sh", "bin/tool"),
            hard("bin/same", "bin/tool"),
            file("a/b/c", b"x" * 3 * MIB),
        ]
    )
    assert (root / "bin/tool").read_bytes() == b"#!"
    assert (root / "sh").readlink() == Path("bin/tool")
    assert (root / "bin/same").stat().st_ino == (root / "bin/tool").stat().st_ino
    assert stat.S_IMODE((root / "bin/tool").stat().st_mode) == 0o755
    assert (root / "bin/tool").stat().st_mtime == 1_700_000_000
    assert (root / "a/b/c").stat().st_size == 3 * MIB


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_plain_and_gzip_layers_unpack(unpack: Unpacker, compress: Callable[[bytes], bytes]) -> None:
    assert names(unpack(compress(tar([file("a")])))) == {"a"}


def test_a_zstd_layer_unpacks(unpack: Unpacker) -> None:
    """The frame holds the archive as it is: a raw block, which needs no compressor to write."""
    content = tar([file("a")])
    blocks = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    frame = b"\x28\xb5\x2f\xfd\x00\x58"  # no checksum, no content size; a window of 2 MiB
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        frame += (len(block) << 3 | last).to_bytes(3, "little") + block
    assert names(unpack(frame)) == {"a"}


def test_mount_points_are_made_and_what_the_image_has_is_left(unpack: Unpacker) -> None:
    root = unpack([folder("tmp", 0o700), link("proc", "bin"), file("etc/hosts", b"own")])
    assert all(os.path.lexists(root / name) for name in MADE)
    assert (root / "proc").is_symlink()
    assert (root / "etc/hosts").read_bytes() == b"own"
    assert (root / "etc/resolv.conf").read_bytes() == b""
    assert stat.S_IMODE((unpack([file("x")]) / "tmp").stat().st_mode) == 0o1777


CONTAINED: dict[str, tuple[list[Member], set[str]]] = {
    "dotdot": ([file("../../evil")], {"evil"}),
    "dotdot inside": ([file("a/../../../evil")], {"evil"}),
    "absolute": ([file("/evil")], {"evil"}),
    "many slashes and dots": ([file("//.//a/././b")], {"a", "a/b"}),
    "absolute link then file through it": ([link("out", "/outside"), file("out/x")], {"out", "outside", "outside/x"}),
    "relative link up then file through it": (
        [link("out", "../../outside"), file("out/x")],
        {"out", "outside", "outside/x"},
    ),
    "link to link": ([link("a", "b"), link("b", "/c"), file("a/x")], {"a", "b", "c", "c/x"}),
    "dangling link is replaced, not followed": ([link("victim", "../../outside/victim"), file("victim")], {"victim"}),
    "link replaced by folder": ([link("d", "../../outside"), folder("d"), file("d/x")], {"d", "d/x"}),
    "link with dotdot beyond the root": ([link("up", "../" * 30), file("up/x")], {"up", "x"}),
    "device": ([file("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], set()),
    "block device": ([file("sda", b"", type=tarfile.BLKTYPE, devmajor=8)], set()),
    "fifo": ([file("pipe", b"", type=tarfile.FIFOTYPE)], set()),
    "duplicate names: the last counts": ([file("a", b"1"), file("a", b"22")], {"a"}),
    "file then folder": ([file("a"), folder("a"), file("a/b")], {"a", "a/b"}),
    "folder then file": ([file("a/b"), file("a")], {"a"}),
    "the root itself": ([folder("."), folder("/"), file("a")], {"a"}),
    "long name": ([file("n" * 250 + "/" + "m" * 250)], {"n" * 250, "n" * 250 + "/" + "m" * 250}),
    "names that differ in case": ([file("A"), file("a"), folder("d"), file("D")], {"A", "a", "D", "d"}),
    "hard link to a link outside is that link": (
        [link("out", "../../outside/victim"), hard("same", "out")],
        {"out", "same"},
    ),
    "file over a hard link changes the name alone": (
        [file("a", b"1"), hard("b", "a"), file("b", b"2")],
        {"a", "b"},
    ),
    "link over a folder with files": ([file("d/e/f"), link("d", "../../outside")], {"d"}),
    "hard link over a folder": ([file("d/e"), file("a"), hard("d", "a")], {"d", "a"}),
    "folder over a link to a folder": ([folder("e"), link("d", "e"), folder("d"), file("d/x")], {"e", "d", "d/x"}),
    "file by two names through a link": ([link("l", "."), file("l/a", b"1"), file("a", b"2")], {"l", "a"}),
    "pax size that differs from the header's": (
        [file("pax", b"9 size=1\n", type=tarfile.XHDTYPE), file("a", b"two"), file("b")],
        {"a", "b"},
    ),
    "name of other letters": ([file("ñ/日本/🐟")], {"ñ", "ñ/日本", "ñ/日本/🐟"}),
    "name of control characters": ([file("\x1b[2J\r")], {"\x1b[2J\r"}),
    "name of a drive": ([file("C:\\evil")], {"C:\\evil"}),
    "name that is no text": ([file("caf\udce9")], {"caf\udce9"}),
    "name with newline": ([file("a\nb")], {"a\nb"}),
}


@pytest.mark.parametrize("case", CONTAINED)
def test_what_would_lead_outside_stays_inside(unpack: Unpacker, case: str) -> None:
    members, expected = CONTAINED[case]
    assert names(unpack(members)) == expected


def test_the_later_of_two_entries_counts_and_a_name_shared_before_is_not_written_through(unpack: Unpacker) -> None:
    root = unpack([file("a", b"1"), hard("b", "a"), file("b", b"22"), file("c", b"first"), file("c", b"second")])
    assert [(root / name).read_bytes() for name in "abc"] == [b"1", b"22", b"second"]


def test_what_a_lower_layer_shares_is_not_changed_through_an_upper_layers_link(unpack: Unpacker) -> None:
    root = unpack([file("bin/a", b"1"), link("usr", "bin")], [file("usr/a", b"2"), file("usr/b", b"3")])
    assert ((root / "bin/a").read_bytes(), (root / "bin/b").read_bytes()) == (b"2", b"3")
    assert (root / "usr").is_symlink()


def test_everything_can_be_removed_again_whatever_its_modes_say(unpack: Unpacker) -> None:
    unpack(
        [folder("shut", 0o000), file("shut/in/closed", b"", 0o000), folder("shut/in", 0o111), file("a", uid=12, gid=34)]
    )
    store = RootfsStore(unpack.store)
    assert len(store.prune(max_bytes=0)) == 1
    assert {path.suffix for path in unpack.store.iterdir()} == {".lock"}


def test_set_user_bits_are_dropped_and_owners_not_kept(unpack: Unpacker) -> None:
    root = unpack(
        [
            file("su", b"", 0o6755, uid=1234, gid=1234),
            folder("shared", 0o3777),
            file("closed", b"", 0o000),
            folder("shut", 0o000),
        ]
    )
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("su", "shared", "closed", "shut")}
    assert modes == {"su": 0o755, "shared": 0o1777, "closed": 0o400, "shut": 0o700}
    assert (root / "su").stat().st_uid == os.geteuid()


WHITEOUTS: dict[str, tuple[list[Member], list[Member], set[str]]] = {
    "file": ([file("a"), file("b")], [file(".wh.a", b"")], {"b"}),
    "folder": ([file("d/a/b"), file("b")], [file(".wh.d", b"")], {"b"}),
    "in a folder": ([file("d/a"), file("d/b")], [file("d/.wh.a", b"")], {"d", "d/b"}),
    "link, not what it leads to": ([link("l", "d"), file("d/a")], [file(".wh.l", b"")], {"d", "d/a"}),
    "only lower layers": ([file("a", b"old")], [file("a", b"new"), file(".wh.a", b"")], {"a"}),
    "opaque": ([file("d/a"), file("d/e/f")], [file("d/.wh..wh..opq", b""), file("d/new")], {"d", "d/new"}),
    "opaque, told after the new": ([file("d/a")], [file("d/new"), file("d/.wh..wh..opq", b"")], {"d", "d/new"}),
    "opaque keeps new files in old folders": (
        [file("d/e/old")],
        [file("d/e/new"), file("d/.wh..wh..opq", b"")],
        {"d", "d/e", "d/e/new"},
    ),
    "of what is not there": ([file("a")], [file("no/.wh.x", b""), file(".wh.y", b"")], {"a"}),
    "through a link, inside": ([link("l", "/d"), file("d/a"), file("d/b")], [file("l/.wh.a", b"")], {"l", "d", "d/b"}),
    "other metadata": ([file("a")], [file(".wh..wh.plnk", b""), file(".wh..wh.aufs", b"x" * 600)], {"a"}),
    "file over lower folder": ([file("d/a")], [file("d")], {"d"}),
    "hard link over lower file": ([file("a", b"1"), file("b", b"2")], [hard("a", "b")], {"a", "b"}),
}


@pytest.mark.parametrize("case", WHITEOUTS)
def test_a_layer_takes_away_what_lower_ones_brought(unpack: Unpacker, case: str) -> None:
    lower, upper, expected = WHITEOUTS[case]
    assert names(unpack(lower, upper)) == expected


def with_size(member: Member, size: int) -> bytes:
    """A header that promises another size than follows."""
    member[0].size = size
    return member[0].tobuf(tarfile.GNU_FORMAT)


SMALL = UnpackLimits(total_bytes=4 * MIB, entries=50, header_bytes=64 * 1024)
PAX = file("pax", b"", type=tarfile.XHDTYPE)
PAX_OF_60_KIB = file("pax", b"60000 x=" + b"y" * 59_991 + b"\n", type=tarfile.XHDTYPE)
REFUSED: dict[str, tuple[list[Member] | bytes, str]] = {
    "whiteout of its own folder": ([file("a/.wh...", b"")], "its own folder"),
    "whiteout of nothing": ([file("a/.wh.", b"")], "its own folder"),
    "whiteout of the parent": ([file("a/.wh..", b"")], "its own folder"),
    "hard link outside": ([hard("a", "../../outside/victim")], "no file of the image"),
    "hard link through a link outside": ([link("o", "../../outside"), hard("a", "o/victim")], "no file of the image"),
    "hard link to a folder": ([folder("d"), hard("a", "d")], "no file of the image"),
    "hard link to itself only": ([hard("a", "a")], "no file of the image"),
    "file for the root": ([file("/")], "replace the root|no file"),
    "link for the root": ([link("..", "/outside")], "replace the root"),
    "through a file": ([file("a"), file("a/b")], "through a file"),
    "links in a circle": ([link("a", "b"), link("b", "a"), file("a/x")], "too many links"),
    "too deep": ([file("d/" * 300 + "x")], "too long"),
    "name too long for a file": ([file("n" * 300)], "too long"),
    "path too long": ([file("/".join(["n" * 200] * 30))], "too long"),
    "too many entries": ([file(f"f{n}", b"") for n in range(60)], "more than 50 entries"),
    "more than an image may hold": (gzip.compress(tar([file("big", bytes(5 * MIB))])), "more than an image"),
    "gzip bomb behind the end mark": (gzip.compress(tar([file("a")]) + bytes(64 * MIB)), "more than an image"),
    "pax header bomb": (with_size(PAX, 1 << 30) + bytes(1024), "header of"),
    "long name bomb": (
        with_size(file("././@LongLink", b"", type=tarfile.GNUTYPE_LONGNAME), 1 << 33) + bytes(1024),
        "header of",
    ),
    "damaged pax header": ([file("pax", b"999999 path=x\n", type=tarfile.XHDTYPE), file("a")], "damaged pax"),
    "pax size beyond the bound": (
        [file("pax", b"19 size=9999999999\n", type=tarfile.XHDTYPE), file("a", b"x")],
        "more than an image|middle of an entry",
    ),
    "many pax headers without an entry": ([PAX_OF_60_KIB] * 80, "more than an image"),
    "zeros instead of an archive": (gzip.compress(bytes(64 * MIB)), "more than an image"),
    "a size below zero": (tar([file("a", b"")]).replace(b"00000000000", b"-0000000001", 1), "damaged|number"),
    "pax size that is none": ([file("pax", b"13 size=-5x\n\n", type=tarfile.XHDTYPE), file("a")], "damaged pax"),
    "cut short in a file": (tar([file("a", bytes(5000))])[:3000], "middle of an entry"),
    "cut short in gzip": (gzip.compress(tar([file("a", os.urandom(5000))]))[:3000], "cut short"),
    "no end mark": (tar([file("a")])[:1024], "middle of an entry"),
    "empty": (b"", "middle of an entry"),
    "garbage": (b"not a tar at all" * 100, "not a tar|number that is none"),
    "garbage after gzip": (gzip.compress(tar([file("a")])) + b"garbage", "damaged"),
    "something after the end mark": (tar([file("a")]) + tar([file("b")]), "follows its end mark"),
    "wrong check sum": (tar([file("a")]).replace(b"0000644", b"0000777", 1), "damaged"),
    "sparse": (with_size(file("s", b"", type=tarfile.GNUTYPE_SPARSE), 0) + bytes(1024), "sparse"),
    "unknown type": (with_size(file("u", b"", type=b"Z"), 0) + bytes(1024), "unknown type"),
    "link to nothing": ([link("a", "")], "link to nothing"),
    "folder with content": (with_size(folder("d"), 512) + bytes(2048), "is no file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_contained_is_refused_naming_the_layer_and_leaves_nothing(unpack: Unpacker, case: str) -> None:
    layer, reason = REFUSED[case]
    with pytest.raises(ScarError, match=f"layer layer-2.tar cannot be unpacked: .*({reason})"):
        unpack([file("fine")], layer, limits=SMALL)
    assert [path.name for path in unpack.store.iterdir() if path.suffix != ".lock"] == []


def test_a_digest_cannot_name_a_folder_elsewhere(tmp_path: Path) -> None:
    for digest in ("sha256:../../x", "x", "sha256:" + "A" * 64, ""):
        with pytest.raises(ScarError, match="not an image digest"):
            RootfsStore(tmp_path).ensure(digest, [])


def test_an_image_is_unpacked_once_and_two_at_once_agree(tmp_path: Path) -> None:
    layer = tmp_path / "l"
    layer.write_bytes(tar([file(f"d/{n}", bytes(100)) for n in range(300)]))
    digest = "sha256:" + "a" * 64
    roots: list[Path] = []
    threads = [
        threading.Thread(target=lambda: roots.append(RootfsStore(tmp_path / "s").ensure(digest, [layer])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(roots)) == 1
    assert len(list((roots[0] / "d").iterdir())) == 300
    layer.unlink()
    assert RootfsStore(tmp_path / "s").ensure(digest, [layer]) == roots[0]


def test_an_unpacking_that_was_killed_is_done_anew(tmp_path: Path) -> None:
    layer = tmp_path / "l"
    layer.write_bytes(tar([file("a")]))
    digest = "sha256:" + "b" * 64
    fifo = tmp_path / "slow"
    os.mkfifo(fifo)
    program = f"import sys; sys.path[:0] = {sys.path!r}\nfrom pathlib import Path\nfrom scar.local.rootfs import RootfsStore\n"
    program += (
        f"RootfsStore(Path({str(tmp_path / 's')!r})).ensure({digest!r}, [Path({str(layer)!r}), Path({str(fifo)!r})])"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as unpacking:
        writing = os.open(fifo, os.O_WRONLY)  # it has unpacked the first layer once it opens the second
        unpacking.kill()
        unpacking.wait()
        os.close(writing)
    assert list((tmp_path / "s").glob("*.making"))
    root = RootfsStore(tmp_path / "s").ensure(digest, [layer])
    assert names(root) == {"a"}
    assert not list((tmp_path / "s").glob("*.making"))


def test_the_least_recently_used_images_make_room(tmp_path: Path) -> None:
    store = RootfsStore(tmp_path / "s", max_bytes=2500)
    digests = [f"sha256:{letter * 64}" for letter in "abc"]
    for index, digest in enumerate(digests):
        layer = tmp_path / digest[-1]
        layer.write_bytes(tar([file("a", bytes(1000)), folder("shut", 0o500)]))
        root = store.ensure(digest, [layer])
        os.utime(root.parent / "complete.json", (index + 1, index + 1))
    store.ensure(digests[2], [])
    assert store.usage() == 2000
    assert store.prune(max_bytes=0, keep={digests[2]}) == (digests[1],)
    assert store.usage() == 1000


PART = st.sampled_from(["a", "b", "..", ".", "", "l", ".wh.a", ".wh..wh..opq"])
NAME = st.lists(PART, min_size=1, max_size=4).map("/".join)
TARGET = st.lists(st.sampled_from(["a", "b", "..", "l", "", "outside", "victim"]), min_size=1, max_size=5).map("/".join)
MEMBER = st.one_of(NAME.map(file), NAME.map(folder), st.builds(link, NAME, TARGET), st.builds(hard, NAME, TARGET))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(st.lists(MEMBER, max_size=8), min_size=1, max_size=3))
def test_no_sequence_of_entries_leaves_the_root(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Member]]
) -> None:
    """Either it unpacks or it is refused; nothing outside changes."""
    base = Unpacker(tmp_path_factory.mktemp("any") / "base")
    try:
        root = base(*[tar(members) for members in layers])
    except ScarError:
        pass
    else:
        assert os.path.realpath(root) == str(root)
    base.assert_nothing_escaped()
