"""Only regular files that lie in the output directory are published, all of them or none."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from faassupervisor import outputs
from faassupervisor.contract import Storage
from faassupervisor.errors import StageOutError

RULE = (Storage("s3", "b", "out"),)


@pytest.fixture
def outbox(tmp_path):
    path = tmp_path / "work" / "out"
    path.mkdir(parents=True)
    return path


def names(outbox):
    return [output.relative for output in outputs.find(outbox)]


def test_files_of_every_depth_and_name_are_found_in_order(outbox):
    """KEY10."""
    deep = outbox / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (outbox / "empty").mkdir()
    for path in (deep / "new\nline", outbox / " blank ", outbox / "-rf", outbox / "a.txt", outbox / ".hidden"):
        path.write_text("x")
    assert names(outbox) == [" blank ", "-rf", ".hidden", "a.txt", "a/b/c/new\nline"]


def test_a_link_to_a_file_beside_it_is_that_files_content(outbox):
    (outbox / "sub").mkdir()
    (outbox / "sub" / "real").write_text("content")
    (outbox / "link").symlink_to("sub/real")
    (outbox / "absolute").symlink_to(outbox / "sub" / "real")
    found = outputs.find(outbox)
    assert [output.relative for output in found] == ["absolute", "link", "sub/real"]
    for output in found:
        with outputs.open_output(outbox, output) as source:
            assert source.read() == b"content"


def fifo(outbox):
    os.mkfifo(outbox / "x")


def unix_socket(outbox):
    here = Path.cwd()
    os.chdir(outbox)  # a socket's path may have 108 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("x")
    finally:
        os.chdir(here)


def loop(outbox):
    (outbox / "x").symlink_to("x")


def link_to_folder(outbox):
    (outbox / "folder").mkdir()
    (outbox / "x").symlink_to("folder")


def not_utf8(outbox):
    (outbox / os.fsdecode(b"x\xff")).write_text("")


def too_long(outbox):
    folder = outbox / ("x" * 250) / ("x" * 250) / ("x" * 250) / ("x" * 250)
    folder.mkdir(parents=True)
    (folder / ("x" * 250)).write_text("")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda outbox: (outbox / "x").symlink_to("/etc/passwd"), "leaves the output directory"),
        (lambda outbox: (outbox / "x").symlink_to("../../../../../../../etc/passwd"), "leaves the output directory"),
        (lambda outbox: (outbox / "x").symlink_to("nowhere"), "leads nowhere"),
        (loop, "leads in a circle"),
        (link_to_folder, "a directory, not to a regular file"),
        (fifo, "is a FIFO"),
        (unix_socket, "is a socket"),
        (not_utf8, "not UTF-8"),
        (too_long, "longer than 1024 bytes"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_cannot_be_published_is_refused_by_name(outbox, make, reason):
    """KEY10, KEY11."""
    (outbox / "good").write_text("good")
    make(outbox)
    with pytest.raises(StageOutError, match=reason) as caught:
        outputs.find(outbox)
    assert "output 'x" in caught.value.message or "output b'x" in caught.value.message


def test_an_output_directory_that_became_a_link_is_refused(outbox, tmp_path):
    outbox.rmdir()
    outbox.symlink_to("/etc")
    with pytest.raises(StageOutError, match="no directory any more"):
        outputs.find(outbox)


def test_a_file_that_was_swapped_after_the_check_is_not_published(outbox):
    """SE8."""
    (outbox / "sub").mkdir()
    (outbox / "sub" / "a").write_text("mine")
    (found,) = outputs.find(outbox)
    (outbox / "sub" / "a").unlink()
    (outbox / "sub" / "a").symlink_to("/etc/passwd")
    with pytest.raises(StageOutError, match="cannot be opened"):
        outputs.open_output(outbox, found)
    (outbox / "sub" / "a").unlink()
    (outbox / "sub").rmdir()
    (outbox / "sub").symlink_to("/etc")
    with pytest.raises(StageOutError, match="cannot be opened"):
        outputs.open_output(outbox, found)


def test_nobody_who_swaps_files_for_links_gets_anything_else_published(outbox, tmp_path):
    """SE8."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    target = outbox / "a"
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for make in (
                lambda path: path.symlink_to(secret),
                lambda path: path.write_text("mine"),
                lambda path: path.hardlink_to(target),
            ):
                fresh = outbox.parent / "fresh"
                fresh.unlink(missing_ok=True)
                try:
                    make(fresh)
                    fresh.rename(target)
                except OSError:
                    continue

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(300):
            try:
                for output in outputs.find(outbox):
                    with outputs.open_output(outbox, output) as source:
                        assert source.read() in (b"mine", b"")
            except StageOutError:
                continue
    finally:
        stop.set()
        swapper.join()


@pytest.mark.parametrize(
    ("relative", "prefix", "suffix", "expected"),
    [
        ("a/b.txt", (), (), True),
        ("a/b.txt", ("a/",), (), True),
        ("a/b.txt", ("b",), (), False),
        ("a/b.txt", (), (".txt", ".png"), True),
        ("a/b.txt", ("x", "a"), (".png",), False),
        ("ü.txt", ("ü",), (), True),
    ],
)
def test_filters_look_at_the_relative_path(relative, prefix, suffix, expected):
    """KEY13."""
    assert outputs.matches(relative, Storage("s3", "b", "", prefix, suffix)) is expected


def test_a_file_goes_to_a_place_once_even_when_two_rules_name_it(outbox):
    """KEY13."""
    (outbox / "a").write_text("")
    (found,) = outputs.find(outbox)
    uploads = outputs.uploads(outbox, [found], [*RULE, *RULE, Storage("s3", "b", "")])
    assert [(upload.bucket, upload.key) for upload in uploads] == [("b", "out/a"), ("b", "a")]


def test_ten_thousand_files_are_found_quickly(outbox):
    """KEY10."""
    for number in range(10_000):
        (outbox / f"{number:05}").touch()
    assert names(outbox) == [f"{number:05}" for number in range(10_000)]


def test_a_bad_output_among_good_ones_publishes_none(lab, bucket, out):
    """KEY10, KEY11: outputs are checked as a whole before any of them is published."""
    answer = lab.agent('cd "$TMP_OUTPUT_DIR"; echo 1 > a; ln -s /etc/passwd b', outputs=out).invoke({})
    assert answer.error_type == "StageOutFailed"
    assert answer.document["errorMessage"] == "output 'b' is a symbolic link that leaves the output directory"
    assert bucket.keys() == []


def test_hundreds_of_outputs_are_published(lab, bucket, out):
    agent = lab.agent('cd "$TMP_OUTPUT_DIR"; i=0; while [ $i -lt 300 ]; do : > $i; i=$((i+1)); done', outputs=out)
    answer = agent.invoke({})
    assert answer.error_type is None
    assert sorted(answer.document["runs"][0]["outputs"]) == sorted(
        f"s3://{bucket.name}/out/{number}" for number in range(300)
    )
    assert len(bucket.keys()) == 300
