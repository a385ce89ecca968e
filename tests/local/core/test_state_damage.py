"""A state that does not add up is refused with its path and the way out, and is left as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from local_daemon import Running, make_role

from scar.local import snapshot
from scar.local.journal import OPENING, Journal, replay
from scar.local.state import State, StateDamagedError, write_atomically


def cut(content: bytes) -> bytes:
    return content[:-7]


def emptied(_: bytes) -> bytes:
    return b""


def bit_flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def of_another_moto(content: bytes) -> bytes:
    header, _, payload = content.partition(b"\n")
    return json.dumps(json.loads(header) | {"written_by": "moto 9.9.9 on Python 3.11"}).encode() + b"\n" + payload


def of_a_newer_schema(content: bytes) -> bytes:
    header, _, payload = content.partition(b"\n")
    return json.dumps(json.loads(header) | {"schema": 99}).encode() + b"\n" + payload


DAMAGE = (cut, emptied, bit_flipped, of_another_moto, of_a_newer_schema)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_snapshot_is_refused_and_the_one_before_is_kept(tmp_path, damage: Callable[[bytes], bytes]):
    """LO4."""
    path = tmp_path / "iam.snapshot"
    snapshot.write(path, b"one", written_by="moto 5")
    snapshot.write(path, b"two", written_by="moto 5")
    assert snapshot.read(path, written_by="moto 5") == b"two"
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    with pytest.raises(StateDamagedError) as refused:
        snapshot.read(path, written_by="moto 5")
    assert refused.value.where == str(path)
    assert "scar local reset" in str(refused.value)
    assert path.read_bytes() == broken
    assert snapshot.read(path.with_name("iam.snapshot.previous"), written_by="moto 5") == b"one"


def test_every_single_flipped_bit_of_a_snapshot_is_seen(tmp_path):
    path = tmp_path / "x.snapshot"
    snapshot.write(path, b"payload", written_by="moto 5")
    good = path.read_bytes()
    for position in range(len(good)):
        for bit in (1, 16, 128):
            path.write_bytes(good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :])
            with pytest.raises(StateDamagedError):
                snapshot.read(path, written_by="moto 5")


def test_a_journal_cut_anywhere_gives_back_the_whole_records_before(tmp_path):
    """LO4."""
    path = tmp_path / "journal"
    journal = Journal(path)
    ends = [journal.append(b"record %d" % number) for number in range(5)]
    journal.sync(ends[-1])
    journal.close()
    content = path.read_bytes()
    for length in range(len(OPENING), len(content) + 1):
        path.write_bytes(content[:length])
        whole = sum(end <= length for end in ends)
        assert list(replay(path)) == [b"record %d" % number for number in range(whole)]
        assert path.stat().st_size == ([len(OPENING), *ends])[whole]


def test_a_journal_that_has_lost_its_first_record_is_refused_and_left_as_it_is(tmp_path):
    """LO4: it has its name only once that record is there, so no crash leaves it so."""
    path = tmp_path / "journal"
    Journal(path).close()
    assert path.read_bytes() == OPENING
    for length in range(len(OPENING)):
        path.write_bytes(OPENING[:length])
        with pytest.raises(StateDamagedError, match="empty"):
            list(replay(path))
        assert path.read_bytes() == OPENING[:length]


def test_a_flipped_bit_of_a_journal_is_damage_not_an_end(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    for number in range(5):
        journal.append(b"record %d" % number)
    journal.close()
    good = path.read_bytes()
    for position in range(len(good)):
        changed = good[:position] + bytes([good[position] ^ 4]) + good[position + 1 :]
        path.write_bytes(changed)
        with pytest.raises(StateDamagedError):
            list(replay(path))
        assert path.read_bytes() == changed


@pytest.fixture
def used(stopped: Running) -> Running:
    daemon = stopped.start()
    make_role(daemon)
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="k", Body=b"content")
    assert daemon.stop() == 0
    return daemon


def test_the_daemon_refuses_a_damaged_snapshot_of_keys_a_missing_journal_and_a_missing_body(used: Running):
    (keys,) = (used.folder / "s3").glob("*.snapshot")
    good = keys.read_bytes()
    keys.write_bytes(bit_flipped(good))
    with pytest.raises(AssertionError, match="snapshot is damaged"):
        used.start()
    keys.write_bytes(good)
    (body,) = (path for path in (used.folder / "objects").rglob("*") if path.is_file())
    hidden = body.rename(used.folder / "hidden")
    with pytest.raises(AssertionError, match="body is missing"):
        used.start()
    hidden.rename(body)
    assert used.start().client("s3").get_object(Bucket="bucket", Key="k")["Body"].read() == b"content"


def test_a_folder_of_a_newer_version_or_a_foreign_one_is_refused(tmp_path):
    state = State(tmp_path / "state")
    state.prepare()
    (state.folder / "scar-local-state").write_text("99\n")
    with pytest.raises(Exception, match="newer SCAR"):
        state.prepare()


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two" * 1000)
    assert path.read_bytes() == b"two" * 1000
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
