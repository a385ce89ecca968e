"""Layers that are kept: made once, verified on use, whole or not there."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from scar.errors import ScarError
from scar.package.cache import keep_layer, written_whole
from scar.package.layer import Digests, File, write_layer
from tests.scar.package.images import bytes_of


class Maker:
    """Makes a small layer and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, out: IO[bytes]) -> tuple[Digests, Mapping[str, Any]]:
        self.times += 1
        return write_layer([File("a", b"content" * 1000)], out), {"note": 1}


def test_a_layer_is_made_once_and_then_found(tmp_path: Path) -> None:
    make = Maker()
    first = keep_layer(tmp_path / "x", make)
    second = keep_layer(tmp_path / "x", make)
    assert make.times == 1
    assert bytes_of(first.layer) == bytes_of(second.layer)
    assert first.notes == second.notes == {"note": 1}


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "record cut", "record of another shape"])
def test_what_was_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    """CL21."""
    make = Maker()
    whole = bytes_of(keep_layer(tmp_path / "x", make).layer)
    layer, record = tmp_path / "x" / "layer.tar.gz", tmp_path / "x" / "record.json"
    match damage:
        case "cut":
            layer.write_bytes(whole[:-1])
        case "flipped":
            layer.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
        case "gone":
            layer.unlink()
        case "record cut":
            record.write_bytes(record.read_bytes()[:-5])
        case _:
            record.write_text("[1]")
    assert bytes_of(keep_layer(tmp_path / "x", make).layer) == whole
    assert make.times == 2


def test_what_is_not_current_is_made_again(tmp_path: Path) -> None:
    make = Maker()
    keep_layer(tmp_path / "x", make)
    keep_layer(tmp_path / "x", make, is_current=lambda notes: notes["note"] == 2)
    assert make.times == 2


def test_a_maker_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(out: IO[bytes]) -> tuple[Digests, Mapping[str, Any]]:
        out.write(b"half")
        raise ScarError("no")

    with pytest.raises(ScarError, match="no"):
        keep_layer(tmp_path / "x", fail)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["lock"]


def test_what_a_killed_maker_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "layer.tar.gzabc.new").write_bytes(b"half")
    keep_layer(tmp_path / "x", Maker())
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["layer.tar.gz", "lock", "record.json"]


def test_a_second_process_waits_for_the_first_and_makes_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from scar.package.cache import keep_layer;"
        "from scar.package.layer import File, write_layer\n"
        "def make(out):\n"
        "    Path(sys.argv[1], 'started').touch(); time.sleep(0.5)\n"
        "    return write_layer([File('a', b'content' * 1000)], out), {'note': 1}\n"
        "keep_layer(Path(sys.argv[1]) / 'x', make)"
    )
    first = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    deadline = time.monotonic() + 20
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    make = Maker()
    keep_layer(tmp_path / "x", make)
    assert make.times == 0
    assert first.wait(20) == 0


def test_threads_agree_too(tmp_path: Path) -> None:
    make = Maker()
    threads = [threading.Thread(target=keep_layer, args=(tmp_path / "x", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.times == 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_bytes(b"old")
    with pytest.raises(KeyError), written_whole(target) as out:
        out.write(b"half")
        raise KeyError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
