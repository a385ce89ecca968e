"""put and get through the real command line against a real HTTP S3."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from scar.aws.clients import Aws
from scar.aws.objects import Download, Object, Upload, download, objects_below, same, upload
from scar.cli import main
from scar.commands.transfer import split
from scar.errors import ScarError, UsageError


@pytest.fixture
def cloud(moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line finds the account as any AWS tool does: by its environment."""
    for key, value in {
        "AWS_ENDPOINT_URL": moto_url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)


def keys(aws: Aws, bucket: str) -> list[str]:
    return [item.key for item in objects_below(aws, bucket, "")]


@pytest.mark.usefixtures("cloud")
def test_a_file_goes_into_the_folder_under_its_own_name(aws: Aws, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_text("text")
    assert main(["put", "-b", f"{bucket}/in/", "-p", "a b.txt"]) == 0
    assert keys(aws, bucket) == ["in/a b.txt"]
    assert aws.s3.head_object(Bucket=bucket, Key="in/a b.txt")["ContentType"] == "text/plain"


@pytest.mark.usefixtures("cloud")
def test_a_folder_keeps_its_tree_and_equal_names_stay_apart(aws: Aws, bucket: str, tmp_path: Path) -> None:
    for name in ("x/one.txt", "x/sub/one.txt", "x/empty"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name if "." in name else "")
    assert main(["put", "-b", f"{bucket}/in", "-p", "x"]) == 0
    assert keys(aws, bucket) == ["in/empty", "in/one.txt", "in/sub/one.txt"]
    assert main(["get", "-b", f"{bucket}/in", "-p", "back"]) == 0
    assert (tmp_path / "back/in/sub/one.txt").read_text() == "x/sub/one.txt"
    assert (tmp_path / "back/in/empty").read_text() == ""


@pytest.mark.usefixtures("cloud")
def test_a_folder_never_means_another_whose_name_begins_alike(aws: Aws, bucket: str, tmp_path: Path) -> None:
    for key in ("in/a", "input2/b", "in"):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert [item.key for item in objects_below(aws, bucket, "in")] == ["in", "in/a"]


@pytest.mark.usefixtures("cloud")
def test_hostile_keys_are_refused_by_name_and_the_others_arrive(
    aws: Aws, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("in/good", "in/../../evil", "/etc/evil", "in//double"):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    (tmp_path / "target").mkdir()
    assert main(["get", "-b", bucket, "-p", "target"]) == 1
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["good"]
    assert "'in/../../evil'" in capsys.readouterr().err


@pytest.mark.usefixtures("cloud")
def test_get_does_not_write_through_a_link(aws: Aws, bucket: str, tmp_path: Path) -> None:
    aws.s3.put_object(Bucket=bucket, Key="in/a", Body=b"new")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("old")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "in").symlink_to(tmp_path / "elsewhere")
    assert main(["get", "-b", bucket, "-p", "target"]) == 1
    assert (tmp_path / "elsewhere" / "a").read_text() == "old"


@pytest.mark.usefixtures("cloud")
def test_what_is_not_there_is_exit_code_3(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text("a")
    assert main(["get", "-b", f"{bucket}/nothing"]) == 3
    assert main(["put", "-b", f"{bucket}/in", "-p", "absent"]) == 3
    assert main(["put", "-b", "no-such-bucket-here/in", "-p", "a"]) == 3
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("cloud")
def test_json_is_the_only_thing_on_standard_output(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("abc")
    assert main(["put", "-b", f"{bucket}/in", "-p", "a", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"bucket": bucket, "uploaded": ["in/a"], "bytes": 3}
    assert main(["ls", "-b", bucket, "-j"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["key"] == "in/a"


def test_an_object_overwritten_after_it_was_listed_is_an_error_and_no_mixture(
    aws: Aws, bucket: str, tmp_path: Path
) -> None:
    aws.s3.put_object(Bucket=bucket, Key="a", Body=b"x" * (20 << 20))
    listed = next(objects_below(aws, bucket, ""))
    aws.s3.put_object(Bucket=bucket, Key="a", Body=b"y" * (20 << 20))
    with pytest.raises(Exception, match="did not match expected ETag"):
        download(aws, bucket, [Download(listed, tmp_path / "a")], lambda *_: None)
    assert not (tmp_path / "a").exists()


def test_of_several_failures_every_one_is_named(aws: Aws, bucket: str, tmp_path: Path) -> None:
    aws.s3.put_object(Bucket=bucket, Key="good", Body=b"x")
    good = next(objects_below(aws, bucket, ""))
    gone = [Object(key, 1, good.modified, good.etag) for key in ("gone-1", "gone-2")]
    with pytest.raises(ScarError, match=r"(?s)2 of 3 not downloaded.*gone-1.*gone-2"):
        download(aws, bucket, [Download(item, tmp_path / item.key) for item in (good, *gone)], lambda *_: None)
    assert (tmp_path / "good").read_bytes() == b"x"


def test_a_bucket_may_be_written_as_a_uri() -> None:
    assert split("s3://b/f/") == ("b", "f")
    assert split("b") == ("b", "")
    with pytest.raises(UsageError, match="names no bucket"):
        split("/f")


@pytest.mark.usefixtures("cloud")
def test_several_paths_are_put_and_equal_names_are_refused_before_anything_is(
    aws: Aws, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY15."""
    for name in ("x/a", "x/sub/a", "y/b", "z/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert main(["put", "-b", bucket, "-p", "x", "-p", "z/a"]) == 2
    assert "'a'" in capsys.readouterr().err
    assert keys(aws, bucket) == []
    assert main(["put", "-b", f"{bucket}/in", "-p", "x", "-p", "y/b", "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert keys(aws, bucket) == []
    assert main(["put", "-b", f"{bucket}/in", "-p", "x", "-p", "y/b"]) == 0
    assert keys(aws, bucket) == ["in/a", "in/b", "in/sub/a"]


@pytest.mark.usefixtures("cloud")
def test_what_is_no_file_is_left_out_and_said(
    aws: Aws, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "good").write_text("x")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe")
    assert main(["put", "-b", bucket, "-p", "tree"]) == 0
    assert keys(aws, bucket) == ["sub/good"]
    told = capsys.readouterr().err
    assert all(f"tree/{name}" in told for name in ("dangling", "loop", "pipe"))


@pytest.mark.usefixtures("cloud")
def test_a_file_that_is_there_stays_unless_it_is_the_object_or_force_is_said(
    aws: Aws, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY14; the same command continues one that was interrupted."""
    for key in ("in/a", "in/b", "in/c"):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    (tmp_path / "to/in").mkdir(parents=True)
    (tmp_path / "to/in/a").write_text("mine")
    (tmp_path / "to/in/b").write_text("in/b")
    before = (tmp_path / "to/in/b").stat().st_mtime_ns
    assert main(["get", "-b", bucket, "-p", "to", "-j"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert (told["kept"], told["unchanged"], told["downloaded"]) == (["in/a"], ["in/b"], [str(tmp_path / "to/in/c")])
    assert (tmp_path / "to/in/a").read_text() == "mine"
    assert main(["get", "-b", bucket, "-p", "to", "--force"]) == 0
    assert (tmp_path / "to/in/a").read_text() == "in/a"
    assert (tmp_path / "to/in/b").stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "to/in").iterdir()) == ["a", "b", "c"]


def test_what_came_in_parts_is_known_again(aws: Aws, bucket: str, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * (9 << 20) + b"y" * 100)
    upload(aws, bucket, [Upload(big, "big")], lambda *_: None)
    [listed] = objects_below(aws, bucket, "")
    assert listed.etag.endswith('-2"')
    assert same(big, listed)
    big.write_bytes(b"y" * 100 + b"x" * (9 << 20))
    assert not same(big, listed)


@pytest.mark.usefixtures("cloud")
def test_objects_that_cannot_all_be_files_are_refused_by_name(
    aws: Aws, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY14."""
    for key in ("a", "a/b", "c/d", "long/" + "x" * 300):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "c").write_text("a file")
    assert main(["get", "-b", bucket, "-p", "to", "-j"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["refused"] == ["a/b", "c/d", "long/" + "x" * 300]
    assert "3 objects not downloaded" in told.err
    assert (tmp_path / "to" / "a").read_text() == "x"
    assert (tmp_path / "to" / "c").read_text() == "a file"


@pytest.mark.usefixtures("cloud")
def test_one_object_goes_to_standard_output_as_it_is(
    aws: Aws, bucket: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    body = bytes(range(256)) * 5000
    aws.s3.put_object(Bucket=bucket, Key="in/a", Body=body)
    assert main(["get", "-b", f"{bucket}/in/a", "-p", "-"]) == 0
    assert capfdbinary.readouterr().out == body
    assert main(["get", "-b", f"{bucket}/in", "-p", "-"]) == 3


@pytest.mark.usefixtures("cloud")
def test_a_rehearsal_downloads_nothing(
    aws: Aws, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.s3.put_object(Bucket=bucket, Key="in/a", Body=b"x")
    assert main(["get", "-b", bucket, "-p", "to", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"would download s3://{bucket}/in/a → to/in/a  (1 B)\n"
    assert not (tmp_path / "to").exists()


@pytest.mark.usefixtures("cloud")
def test_a_listing_is_asked_with_a_query_and_comes_as_yaml_or_plain_text(
    aws: Aws, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("a", "b\tc"):
        aws.s3.put_object(Bucket=bucket, Key=key, Body=b"xyz")
    assert main(["ls", "-b", bucket, "--query", "[].key"]) == 0
    assert json.loads(capsys.readouterr().out) == ["a", "b\tc"]
    assert main(["ls", "-b", bucket, "-o", "yaml", "--query", "sum([].size)"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == 6
    assert main(["ls", "-b", bucket, "-o", "text"]) == 0
    assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()] == [["a", "3 B"], ["b\\tc", "3 B"]]
