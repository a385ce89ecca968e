"""Which programs of an image the zip runtime cannot hold, whatever the layers do to each other."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scar.errors import ScarError
from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.derive import assemble
from scar.package.layer import Directory, Entry, File, GzipHashing, Layer, Link, memory_blob
from scar.package.zips.programs import GlibcVersion, Streaming, judge
from scar.package.zips.scan import Scan, scan
from tests.support.small_images import BANNER, LOADER, elf_file, glibc_files, image_of, real_programs

ARCHITECTURE = host_architecture()
DYNAMIC = elf_file(LOADER, pie=True)
STATIC = elf_file(kind=2)


def looked_at(tmp_path: Path, *layers: Sequence[Entry]) -> Scan:
    return scan(image_of(*layers), ARCHITECTURE, cache=tmp_path / "cache")


def unfit(found: Scan) -> dict[str, str]:
    return {program.path: program.why for program in found.unfit}


def program(path: str, content: bytes = STATIC) -> File:
    return File(path, content, 0o755)


def judged(content: bytes) -> tuple[str, str, str]:
    found = judge(Streaming(io.BytesIO(content).read, len(content)))
    return found.kind, found.architecture, found.interpreter


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (elf_file(LOADER), ("dynamic", ARCHITECTURE, LOADER)),
        (elf_file(LOADER, kind=2), ("dynamic", ARCHITECTURE, LOADER)),
        (elf_file(kind=2), ("static", ARCHITECTURE, "")),
        (elf_file(pie=True), ("static", ARCHITECTURE, "")),
        (elf_file(), ("library", ARCHITECTURE, "")),
        (elf_file("/lib/ld-linux.so.2", machine="i386", wide=False), ("dynamic", "", "/lib/ld-linux.so.2")),
        (elf_file(kind=2, machine="riscv64"), ("static", "", "")),
        (elf_file(kind=1), ("other", ARCHITECTURE, "")),
        (b"#!/usr/bin/env -S python3 -u\nprint()\n", ("script", "", "/usr/bin/env -S python3 -u")),
        (b"\x7fELF", ("other", "", "")),
        (b"\x7fELF" + b"\xff" * 60, ("other", "", "")),
        (elf_file(LOADER)[:70], ("library", ARCHITECTURE, "")),
        (b"", ("other", "", "")),
        (b"plain text", ("other", "", "")),
    ],
)
def test_a_file_is_judged_by_its_head(content: bytes, expected: tuple[str, str, str]) -> None:
    assert judged(content) == expected


def test_a_program_whose_headers_were_moved_to_its_end_is_judged_as_well() -> None:
    """As patchelf leaves it: the table of segments, and what they point to, lie behind everything else."""
    moved = bytearray(elf_file(LOADER))
    tail, filler = bytes(moved[64:]), b"\0" * 200_000
    whole = bytearray(moved[:64] + filler + tail)
    shift = len(filler)
    whole[32:40] = (64 + shift).to_bytes(8, "little")
    start = 64 + shift
    offset = int.from_bytes(whole[start + 8 : start + 16], "little")
    whole[start + 8 : start + 16] = (offset + shift).to_bytes(8, "little")
    assert judged(bytes(whole)) == ("dynamic", ARCHITECTURE, LOADER)


def test_the_version_is_found_wherever_the_sentence_is_cut() -> None:
    text = b"x" * 100 + BANNER + b"x" * 100
    for cut in range(len(text)):
        version = GlibcVersion()
        version.see(text[:cut])
        version.see(text[cut:])
        assert version.version == "2.36"


def test_without_the_sentence_the_newest_symbol_tells_the_version() -> None:
    version = GlibcVersion()
    version.see(b"\0GLIBC_2.2.5\0GLIBC_2.17\0GLIBC_2.9\0GLIBC_PRIVATE\0")
    assert version.version == "2.17"


def test_an_ordinary_image_fits(tmp_path: Path) -> None:
    found = looked_at(tmp_path, [*glibc_files(), program("bin/sh", DYNAMIC)])
    assert (found.loader, found.glibc, found.unfit) == (LOADER, "2.36", ())
    assert found.find("/bin/sh") == "/bin/sh"


def test_programs_of_this_machine_fit(tmp_path: Path) -> None:
    found = looked_at(tmp_path, real_programs("sh", "tr"))
    assert found.unfit == ()
    assert found.loader == LOADER
    assert found.glibc is not None
    assert found.find("/bin/sh") == "/usr/bin/sh"


def test_programs_that_would_not_see_the_image_are_named_with_the_reason(tmp_path: Path) -> None:
    other = "arm64" if ARCHITECTURE == "amd64" else "amd64"
    found = looked_at(
        tmp_path,
        [
            *glibc_files(),
            program("bin/sh", DYNAMIC),
            program("usr/local/bin/tool"),
            program("opt/rust", elf_file(pie=True)),
            program("bin/busybox", elf_file(f"/lib/ld-musl-{ARCHITECTURE}.so.1")),
            program("usr/bin/foreign", elf_file(LOADER, machine=other)),
            program("usr/bin/old", elf_file("/lib/ld-linux.so.2", machine="i386", wide=False)),
            program("system/bin/phone", elf_file("/system/bin/linker64")),
            program("usr/lib/libplain.so", elf_file()),
            File("usr/share/static-without-execute-bit", STATIC, 0o644),
        ],
    )
    assert unfit(found) == {
        "/usr/local/bin/tool": "static",
        "/opt/rust": "static",
        "/bin/busybox": "musl",
        "/usr/bin/foreign": f"for {other}",
        "/usr/bin/old": "for another processor",
        "/system/bin/phone": "started by /system/bin/linker64",
    }


@pytest.mark.parametrize("name", ["sbin/ldconfig", "sbin/ldconfig.real", "usr/sbin/sln"])
def test_what_glibc_brings_along_is_not_reported(tmp_path: Path, name: str) -> None:
    assert unfit(looked_at(tmp_path, [*glibc_files(), program("bin/sh", DYNAMIC), program(name)])) == {}


def test_an_image_without_the_library_has_no_loader(tmp_path: Path) -> None:
    found = looked_at(tmp_path, [program("bin/tool")])
    assert (found.loader, found.glibc, unfit(found)) == (None, None, {"/bin/tool": "static"})


def test_a_loader_that_is_named_and_absent_is_none(tmp_path: Path) -> None:
    assert looked_at(tmp_path, [program("bin/sh", DYNAMIC)]).loader is None


def test_an_old_image_has_its_libraries_under_other_names(tmp_path: Path) -> None:
    folder = LOADER.rpartition("/")[0].lstrip("/")
    libc = elf_file() + BANNER.replace(b"2.36.", b"2.17.")
    files = [
        File("lib/triplet/ld-2.17.so", elf_file(), 0o755),
        File("lib/triplet/libc-2.17.so", libc, 0o755),
        Link("lib/triplet/libc.so.6", "libc-2.17.so"),
        Link(
            LOADER.lstrip("/"),
            ("../" if folder != "lib" else "") + ("lib/" if folder != "lib" else "") + "triplet/ld-2.17.so",
        ),
        program("bin/sh", DYNAMIC),
    ]
    found = looked_at(tmp_path, files)
    assert (found.loader, found.glibc) == (LOADER, "2.17")


def test_only_the_final_files_count(tmp_path: Path) -> None:
    base = [
        *glibc_files(), program("bin/sh", DYNAMIC), program("bin/overwritten"), program("bin/whited-out"),
        Directory("opt"), Directory("opt/tree"), program("opt/tree/tool"), Directory("emptied"), program("emptied/tool"),
        Directory("replaced"), program("replaced/tool"), program("bin/bare"),
    ]  # fmt: skip
    above = [
        program("bin/overwritten", DYNAMIC), File("bin/.wh.whited-out", b""), File("opt/.wh.tree", b""), File("emptied/.wh..wh..opq", b""),
        program("emptied/new", DYNAMIC), File("replaced", b"a file now"), File("bin/bare", b"", 0o644), program("bin/added"),
    ]  # fmt: skip
    found = looked_at(tmp_path, base, above)
    assert unfit(found) == {"/bin/added": "static"}
    assert found.find("/emptied/new") == "/emptied/new"
    assert found.find("/emptied/tool") is None


def test_a_whiteout_leaves_what_its_own_layer_writes(tmp_path: Path) -> None:
    base = [*glibc_files(), program("bin/sh", DYNAMIC), Directory("opt"), program("opt/old")]
    above = [File(".wh.opt", b""), Directory("opt"), program("opt/new")]
    assert unfit(looked_at(tmp_path, base, above)) == {"/opt/new": "static"}


def test_links_lead_where_the_image_has_them(tmp_path: Path) -> None:
    base = [
        Directory("usr"), Directory("usr/bin"), Link("bin", "usr/bin"), Link("usr/bin/sh", "/bin/dash"), program("usr/bin/dash", DYNAMIC),
        Link("usr/bin/up", "../../../../usr/bin/dash"), Link("usr/bin/round", "round"), Link("usr/bin/gone", "nowhere"),
    ]  # fmt: skip
    found = looked_at(tmp_path, base, [program("bin/through-the-link")])
    assert found.find("/bin/sh") == found.find("/usr/bin/up") == "/usr/bin/dash"
    assert found.find("/bin/round") is None
    assert found.find("/bin/gone") is None
    assert unfit(found) == {"/usr/bin/through-the-link": "static"}


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> Layer:
    out = io.BytesIO()
    stream = GzipHashing(out)
    with tarfile.open(fileobj=stream, mode="w|") as tar:  # type: ignore[call-overload]
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    digests = stream.finish()
    return Layer(memory_blob(out.getvalue(), oci.DOCKER_LAYER_GZIP), digests.diff_id)


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def _image(*layers: Layer) -> oci.Image:
    config = {"architecture": ARCHITECTURE, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    return assemble(config, layers)


def test_a_hard_link_is_the_same_file_and_is_told_and_counted_once(tmp_path: Path) -> None:
    one = _tar(
        (_member("bin/busybox"), STATIC.ljust(5000, b"\0")),
        (_member("bin/ls", tarfile.LNKTYPE, "bin/busybox"), b""),
        (_member("bin/cat", tarfile.LNKTYPE, "/bin/busybox"), b""),
    )
    two = _tar((_member("bin/.wh.busybox"), b""))
    found = scan(_image(one, two), ARCHITECTURE, cache=tmp_path)
    assert unfit(found) == {"/bin/cat": "static"}
    assert found.find("/bin/ls") == "/bin/ls"
    assert found.unpacked_bytes == 5000


def test_the_size_is_the_most_that_lies_there_at_once(tmp_path: Path) -> None:
    found = looked_at(
        tmp_path, [File("a", b"x" * 1000), File("b", b"x" * 500)], [File(".wh.a", b""), File("c", b"x" * 200)]
    )
    assert found.unpacked_bytes == 1500


@pytest.mark.parametrize(
    ("name", "kind", "link", "what"),
    [
        ("bin/ls", tarfile.LNKTYPE, "bin/nothing", "no file of the image"),
        ("bin/tool/x", tarfile.REGTYPE, "", "leads through a file"),
        ("loop/x", tarfile.REGTYPE, "", "too many links"),
    ],
)
def test_a_layer_that_cannot_be_unpacked_is_refused_by_its_digest(
    tmp_path: Path, name: str, kind: bytes, link: str, what: str
) -> None:
    layer = _tar(
        (_member("bin/tool"), STATIC), (_member("loop", tarfile.SYMTYPE, "loop"), b""), (_member(name, kind, link), b"")
    )
    with pytest.raises(ScarError, match=what) as refused:
        scan(_image(layer), ARCHITECTURE, cache=tmp_path)
    assert refused.value.where == layer.blob.descriptor.digest


def test_names_that_climb_stay_inside(tmp_path: Path) -> None:
    layer = _tar((_member("../../../bin/tool"), STATIC), (_member("/abs/tool"), STATIC))
    assert unfit(scan(_image(layer), ARCHITECTURE, cache=tmp_path)) == {"/bin/tool": "static", "/abs/tool": "static"}


def test_a_second_look_reads_no_layer(tmp_path: Path) -> None:
    image = image_of([*glibc_files(), program("bin/sh", DYNAMIC), Link("sh", "bin/sh"), program("bin/tool")])
    first = scan(image, ARCHITECTURE, cache=tmp_path)

    def unreadable() -> Iterator[bytes]:
        raise AssertionError("the layer was read again")

    blob = replace(image.layers[0].blob, open=unreadable)
    again = replace(image, layers=(replace(image.layers[0], blob=blob),))
    assert scan(again, ARCHITECTURE, cache=tmp_path) == first


@pytest.mark.parametrize("damage", [b"", b"{", b'{"unfit": 1}', b"[]"])
def test_a_damaged_memory_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    image = image_of([*glibc_files(), program("bin/sh", DYNAMIC)])
    first = scan(image, ARCHITECTURE, cache=tmp_path)
    (record,) = tmp_path.glob("scans/*/scan.json")
    record.write_bytes(damage)
    assert scan(image, ARCHITECTURE, cache=tmp_path) == first


def test_large_files_take_no_memory(tmp_path: Path) -> None:
    large = File("large", bytes(40 << 20), 0o755)
    image = image_of([*glibc_files(), program("bin/sh", DYNAMIC), large])
    tracemalloc.start()
    try:
        scan(image, ARCHITECTURE, cache=tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
