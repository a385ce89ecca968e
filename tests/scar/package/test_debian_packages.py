"""The pinned Debian packages: fetched as anybody, verified, unpacked without Debian's tools, and refused when they are not theirs."""

from __future__ import annotations

import dataclasses
import io
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from scar.errors import ScarError
from scar.package.agent.debian import Group, Package, fetch, mirrors, packages
from scar.package.agent.debian_archive import LIMITS, unpack_packages
from scar.package.agent.elf import needed_versions, read
from scar.package.agent.fakechroot import libraries

ARCHITECTURES = ("amd64", "arm64")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def fakechroots(request: pytest.FixtureRequest, cache: Path) -> Mapping[str, bytes]:
    return libraries(request.param, cache=cache)


def deb(data: bytes, name: str = "data.tar.xz") -> bytes:
    def member(name: str, content: bytes) -> bytes:
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        return header + content + b"\n" * (len(content) % 2)

    return b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.xz", b"odd") + member(name, data)


def tar_xz(*members: tuple[str, bytes, str | None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content, link in members:
            member = tarfile.TarInfo(name)
            if link is None:
                member.size = len(content)
            else:
                member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member, io.BytesIO(content))
    return lzma.compress(out.getvalue())


def test_each_fakechroot_library_needs_no_newer_glibc_than_its_name_says(fakechroots: Mapping[str, bytes]) -> None:
    assert set(fakechroots) == {"2.14", "2.34"}
    for least, content in fakechroots.items():
        wanted = needed_versions(content, least)["libc.so.6"]
        versions = [tuple(map(int, name.removeprefix("GLIBC_").split("."))) for name in wanted]
        # The GNU C library for arm64 began with 2.17.
        assert max(versions) <= max(tuple(map(int, least.split("."))), (2, 17))
        assert set(read(content, least).needed) <= {"libc.so.6", "libdl.so.2", "ld-linux-aarch64.so.1"}


def test_the_newer_fakechroot_library_really_needs_what_the_older_does_not(fakechroots: Mapping[str, bytes]) -> None:
    assert "GLIBC_2.34" in needed_versions(fakechroots["2.34"], "new")["libc.so.6"]
    assert "GLIBC_2.34" not in needed_versions(fakechroots["2.14"], "old")["libc.so.6"]


@pytest.mark.parametrize("group", Group)
def test_both_architectures_are_made_of_the_same_packages_in_the_same_upstream_versions(group: Group) -> None:
    one, other = (packages(group, architecture) for architecture in ARCHITECTURES)
    assert [package.name for package in one] == [package.name for package in other]
    # A rebuild of one architecture alone is `+b1`.
    assert [p.version.partition("+b")[0] for p in one] == [p.version.partition("+b")[0] for p in other]
    assert all(package.path.startswith("pool/main/") for package in (*one, *other))


def test_a_fetched_package_is_kept_and_a_damaged_one_is_fetched_again(cache: Path) -> None:
    """CL21."""
    package = packages(Group.FAKECHROOT_DEBIAN_12, "arm64")[0]
    kept = fetch(package, cache=cache)
    told: list[str] = []
    assert fetch(package, cache=cache, tell=lambda done, size, what: told.append(what)) == kept
    assert told == []
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + b"x")
    assert fetch(package, cache=cache).read_bytes() == whole
    assert [path.name for path in kept.parent.iterdir() if path.name != "lock"] == [kept.name]


def test_a_package_with_another_hash_than_the_pinned_is_refused(tmp_path: Path) -> None:
    """CL21, SE15."""
    package = dataclasses.replace(packages(Group.FAKECHROOT_DEBIAN_12, "amd64")[0], sha256="0" * 64)
    with pytest.raises(ScarError, match=r"libfakechroot .* cannot be fetched") as refused:
        fetch(package, cache=tmp_path)
    assert refused.value.fix
    assert "release of scar" in refused.value.fix


def test_a_package_that_no_mirror_has_is_named(tmp_path: Path) -> None:
    package = Package("nonesuch", "1", "amd64", "pool/main/n/nonesuch_1_amd64.deb", "0" * 64, 1)
    with pytest.raises(ScarError, match="nonesuch 1 for amd64 cannot be fetched"):
        fetch(package, cache=tmp_path)


def test_mirrors_are_those_of_this_machines_own_apt_and_end_in_a_slash() -> None:
    assert mirrors()
    assert all(mirror.endswith("/") and ":" in mirror for mirror in mirrors())


def test_a_package_is_unpacked_with_its_links_and_modes(tmp_path: Path) -> None:
    package = tmp_path / "x.deb"
    package.write_bytes(deb(tar_xz(("./usr/bin/hello", b"hello", None), ("./usr/bin/hi", b"", "hello"))))
    unpack_packages([package], tmp_path / "root")
    assert (tmp_path / "root/usr/bin/hi").read_bytes() == b"hello"


@pytest.mark.parametrize("name", ["../../escaped", "/../escaped", "up/escaped"])
def test_a_package_cannot_write_outside_its_folder(name: str, tmp_path: Path) -> None:
    package, root = tmp_path / "x.deb", tmp_path / "deep" / "root"
    package.write_bytes(deb(tar_xz(("up", b"", "../../.."), (name, b"x", None))))
    unpack_packages([package], root)
    assert [path for path in tmp_path.rglob("escaped") if not path.is_relative_to(root)] == []


def test_a_package_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.deb"
    bomb.write_bytes(deb(tar_xz(("zeros", bytes(2 << 20), None))))
    with pytest.raises(ScarError, match=r"bomb\.deb: .*more than"):
        unpack_packages([bomb], tmp_path / "root", dataclasses.replace(LIMITS, total_bytes=1 << 20))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a package file"),
        (b"\x7fELF", "not a package file"),
        (b"!<arch>\n", "damaged"),
        (deb(b"", "data.tar.zst"), "compressed in a way"),
        (deb(b"no xz"), "cannot be unpacked"),
        (deb(tar_xz(("a", b"x" * 5000, None))[:-40]), "cannot be unpacked"),
        (deb(lzma.compress(b"no tar" * 200)), "cannot be unpacked"),
    ],
)
def test_a_file_that_is_no_whole_package_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    package = tmp_path / "odd.deb"
    package.write_bytes(content)
    with pytest.raises(ScarError, match=reason) as refused:
        unpack_packages([package], tmp_path / "root")
    assert str(refused.value).startswith(str(package))
