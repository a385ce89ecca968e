"""The agent's layer, which all images of functions share: unpacked once, linked into each, and no image changes another through it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest
from test_rootfs import Member, file, folder, hard, link, tar

from faassupervisor.layers.unpack import UnpackLimits
from scar.errors import ScarError
from scar.limits import MIB
from scar.local.rootfs import RootfsStore

DIGESTS = [f"sha256:{letter * 64}" for letter in "abcdef"]
LARGE = os.urandom(2 * MIB)
AGENT = [
    folder("opt/scar/"),
    file("opt/scar/.wh..wh..opq", b""),
    file("opt/scar/bin/python3", LARGE, 0o755),
    folder("opt/scar/lib", 0o700),
    file("opt/scar/lib/secret", b"closed", 0o000),
    link("opt/scar/lib/link", "../bin/python3"),
    hard("opt/scar/lib/same", "opt/scar/bin/python3"),
]


def blob(base: Path, members: Iterable[Member]) -> Path:
    """A layer in a file that is named by its digest, as the registry keeps it."""
    content = tar(members)
    path = base / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return path


def described(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every entry below a folder: its kind with its mode, the time of a file that a layer brought, and what it holds."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        name = str(path.relative_to(root))
        brought = stat.S_ISREG(status.st_mode) and name not in {"etc/hosts", "etc/resolv.conf"}
        found[name] = (status.st_mode, int(status.st_mtime) if brought else 0, content)
    return found


def test_two_images_have_the_agents_files_once_on_disk_and_each_as_if_it_had_been_unpacked_for_it(
    tmp_path: Path,
) -> None:
    agent = blob(tmp_path, AGENT)
    unnamed = tmp_path / "layer.tar"  # what no digest names is never shared
    unnamed.write_bytes(agent.read_bytes())
    bases = [blob(tmp_path, [file("etc/os-release", name), file("opt/scar/old", b"below")]) for name in (b"1", b"2")]
    store = RootfsStore(tmp_path / "store")
    one, two = (store.ensure(digest, [base, agent]) for digest, base in zip(DIGESTS, bases, strict=False))
    plain = RootfsStore(tmp_path / "plain").ensure(DIGESTS[0], [bases[0], unnamed])
    assert described(one) == described(plain)
    assert described(one / "opt") == described(two / "opt")
    assert (one / "opt/scar/bin/python3").stat().st_ino == (two / "opt/scar/bin/python3").stat().st_ino
    assert (one / "opt/scar/bin/python3").stat().st_ino != (plain / "opt/scar/bin/python3").stat().st_ino
    assert (one / "opt/scar/lib").stat().st_ino != (two / "opt/scar/lib").stat().st_ino
    assert (one / "etc/os-release").read_bytes() == b"1"


def test_what_a_later_layer_puts_in_place_of_an_agents_file_is_that_images_alone(tmp_path: Path) -> None:
    agent, above = (
        blob(tmp_path, AGENT),
        blob(tmp_path, [file("opt/scar/bin/python3", b"own"), file("opt/scar/lib/.wh.secret", b"")]),
    )
    store = RootfsStore(tmp_path / "store")
    one = store.ensure(DIGESTS[0], [agent])
    two = store.ensure(DIGESTS[1], [agent, above])
    assert (two / "opt/scar/bin/python3").read_bytes() == b"own"
    assert not (two / "opt/scar/lib/secret").exists()
    assert (one / "opt/scar/bin/python3").read_bytes() == LARGE
    assert (one / "opt/scar/lib/secret").lstat().st_size == 6


def test_an_image_that_is_removed_takes_nothing_from_the_others_nor_from_the_next(tmp_path: Path) -> None:
    agent = blob(tmp_path, AGENT)
    store = RootfsStore(tmp_path / "store")
    one = store.ensure(DIGESTS[0], [agent])
    store.ensure(DIGESTS[1], [agent])
    before = described(one)
    assert store.prune(keep={DIGESTS[0]}) == (DIGESTS[1],)
    assert described(one) == before
    assert described(store.ensure(DIGESTS[1], [agent])) == before


def test_a_layer_with_something_outside_of_the_agents_folder_is_not_shared(tmp_path: Path) -> None:
    layer = blob(tmp_path, [*AGENT, file("usr/bin/tool", b"tool")])
    store = RootfsStore(tmp_path / "store")
    one, two = (store.ensure(digest, [layer]) for digest in DIGESTS[:2])
    assert (one / "usr/bin/tool").read_bytes() == (two / "usr/bin/tool").read_bytes() == b"tool"
    for name in ("usr/bin/tool", "opt/scar/bin/python3"):
        assert (one / name).stat().st_ino != (two / name).stat().st_ino


@pytest.mark.parametrize("at", [0.3, 0.9999], ids=["middle", "end"])
def test_an_agents_layer_that_changed_on_disk_is_refused_and_nothing_of_it_is_kept(tmp_path: Path, at: float) -> None:
    agent = blob(tmp_path, AGENT)
    whole = agent.read_bytes()
    broken = bytearray(whole)
    broken[int(len(broken) * at)] ^= 1
    agent.write_bytes(broken)
    store = RootfsStore(tmp_path / "store")
    with pytest.raises(ScarError, match=f"layer {agent.name} cannot be unpacked"):
        store.ensure(DIGESTS[0], [agent])
    assert store.usage() == 0
    agent.write_bytes(whole)
    assert (store.ensure(DIGESTS[0], [agent]) / "opt/scar/bin/python3").read_bytes() == LARGE


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (UnpackLimits(total_bytes=5 * MIB), "more than an image may hold"),
        (UnpackLimits(entries=10), "more than 10 entries"),
    ],
    ids=["bytes", "entries"],
)
def test_limits_hold_for_all_layers_of_an_image_together_with_the_shared_one(
    tmp_path: Path, limits: UnpackLimits, told: str
) -> None:
    agent = blob(tmp_path, AGENT)
    base = blob(tmp_path, [file(f"f{n}", LARGE[: MIB - n]) for n in range(4)])
    with pytest.raises(ScarError, match=told):
        RootfsStore(tmp_path / "store", limits=limits).ensure(DIGESTS[0], [base, agent])


def test_an_agents_layer_stays_inside_of_the_image_whatever_the_base_has_made_of_its_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    base = blob(tmp_path, [link("opt", str(outside)), link("var", "../../..")])
    root = RootfsStore(tmp_path / "store").ensure(DIGESTS[0], [base, blob(tmp_path, AGENT)])
    assert list(outside.iterdir()) == []
    inner = root / str(outside).lstrip("/") / "scar/bin/python3"
    assert inner.read_bytes() == LARGE
