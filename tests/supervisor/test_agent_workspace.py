"""Private places are private, named safely, and vanish whatever became of them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faassupervisor import workspace
from faassupervisor.workspace import Workspace, safe_name


def test_a_workspace_is_private_and_gone_afterwards(tmp_path):
    with Workspace(tmp_path) as place:
        assert stat.S_IMODE(place.root.stat().st_mode) == 0o700
        assert {path.name for path in place.root.iterdir()} == {"in", "out", "agent"}
    assert list(tmp_path.iterdir()) == []


def test_hostile_remains_are_removed_and_nothing_behind_a_link_is(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    with Workspace(tmp_path) as place:
        (place.outbox / "link").symlink_to(outside)
        os.mkfifo(place.outbox / "fifo")
        (place.outbox / os.fsdecode(b"\xff\n")).write_text("")
        locked = place.outbox / "locked"
        (locked / "inner").mkdir(parents=True)
        (locked / "inner" / "file").write_text("")
        (locked / "inner").chmod(0)
        locked.chmod(0)
        place.inbox.chmod(0)
        place.root.chmod(0)
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "kept").read_text() == "kept"


def test_a_tree_deeper_than_any_path_is_removed(tmp_path):
    with Workspace(tmp_path) as place:
        program = "import os\nfor _ in range(1200):\n    os.mkdir('d' * 20)\n    os.chdir('d' * 20)\nopen('file', 'w').close()"
        subprocess.run([sys.executable, "-c", program], cwd=place.outbox, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_agents_workspace_is_swept_and_a_living_ones_is_not(tmp_path):
    abandoned = tmp_path / "scar-run-0123456789abcdef"
    (abandoned / "in").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with Workspace(tmp_path) as living:
        assert workspace.sweep(tmp_path) == 1
        assert living.inbox.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_users_own_folder_is_never_swept_whatever_its_name(tmp_path):
    for name in ("scar-demo", "scar-run-mine", "scar-run-0123456789abcdef-copy"):
        (tmp_path / name).mkdir()
    assert workspace.sweep(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 3


def test_removing_what_is_absent_is_success(tmp_path):
    workspace.remove(tmp_path / "nothing")
    workspace.remove(tmp_path / "no" / "thing")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("in/a b  ", "a b  "),
        ("a\nb", "a\nb"),
        ("in/-rf", "-rf"),
        ("in/..", "__"),
        ("..", "__"),
        ("x/.", "_"),
        ("back\\slash", "back\\slash"),
        ("in/.hidden", ".hidden"),
        ("k" * 255, "k" * 255),
    ],
)
def test_a_name_keeps_every_byte_unless_it_cannot_be_one(key, name):
    assert safe_name(key) == name


def test_a_long_name_is_cut_but_keeps_its_extension_and_stays_apart():
    """KEY5."""
    one, two = safe_name("ü" * 500 + "1.tar.gz"), safe_name("ü" * 500 + "2.tar.gz")
    assert one != two
    assert one.endswith(".gz")
    assert len(one.encode()) <= 255


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=1024))
def test_every_key_has_a_possible_name(key):
    name = safe_name(key)
    assert 0 < len(name.encode()) <= 255
    assert "/" not in name
    assert name not in {".", ".."}
