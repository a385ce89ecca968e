"""Small objects travel on kept connections and large ones in ranges; whatever is not plain success goes the ordinary way, whole or not at all."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from scar.aws import digests
from scar.aws.clients import Access, Aws
from scar.aws.objects import Download, Upload, download, objects_below, upload
from scar.errors import ScarError
from tests.support.fault_proxy import Cut, Drop, FaultProxy, Flip, Lose, Refuse, Request
from tests.support.faults import UNAVAILABLE, WRONG_ETAG, Fault, Headers

MIB = 1 << 20


@pytest.fixture
def proxy(moto_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(moto_url) as made:
        yield made


@pytest.fixture
def through(proxy: FaultProxy) -> Aws:
    return Aws(Access(region="us-east-1", endpoint_url=proxy.endpoint, access_key="a", secret_key="b"))


def silent(*_: object) -> None:
    pass


def directly(requests: list[Request]) -> int:
    """How many did not come from botocore's client, which numbers its attempts."""
    return sum("amz-sdk-request" not in request.headers for request in requests)


def files(folder: Path, count: int) -> list[Upload]:
    folder.mkdir()
    drawn = random.Random(count)
    made = []
    for number in range(count):
        path = folder / f"é {number}+%.txt"
        path.write_bytes(drawn.randbytes(drawn.choice([0, 1, 4096, 300_000])))
        made.append(Upload(path, f"in/{path.name}"))
    return made


def fetch(aws: Aws, bucket: str, folder: Path, prefix: str = "") -> dict[str, bytes]:
    listed = list(objects_below(aws, bucket, prefix))
    download(aws, bucket, [Download(item, folder / item.key) for item in listed], silent)
    return {item.key: (folder / item.key).read_bytes() for item in listed}


def left_over(folder: Path) -> list[Path]:
    return list(folder.rglob(".scar-*"))


def test_many_small_files_take_a_call_each_there_and_back(
    proxy: FaultProxy, through: Aws, bucket: str, tmp_path: Path
) -> None:
    uploads = files(tmp_path / "from", 30)
    upload(through, bucket, uploads, silent)
    puts = proxy.calls("s3", "PutObject")
    assert (len(puts), directly(puts)) == (30, 29)
    assert {request.headers["content-type"] for request in puts} == {"text/plain"}
    assert fetch(through, bucket, tmp_path / "to") == {item.key: item.path.read_bytes() for item in uploads}
    gets = proxy.calls("s3", "GetObject")
    assert (len(gets), directly(gets)) == (30, 30)
    assert not proxy.calls("s3", "HeadObject")
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    "fault", [Flip(0), Flip(-1), Cut(0), Cut(-1), Drop(), Refuse(500), UNAVAILABLE, WRONG_ETAG], ids=str
)
def test_a_small_object_that_does_not_come_whole_is_fetched_again(
    proxy: FaultProxy, through: Aws, aws: Aws, bucket: str, tmp_path: Path, fault: Fault
) -> None:
    """XF1, XF2."""
    for name in ("a", "b"):
        aws.s3.put_object(Bucket=bucket, Key=name, Body=name.encode() * 5000)
    proxy.add("s3", "GetObject", fault)
    assert fetch(through, bucket, tmp_path / "to") == {"a": b"a" * 5000, "b": b"b" * 5000}, proxy.told()
    assert left_over(tmp_path) == []


def test_an_etag_is_the_same_with_and_without_its_quotes(
    proxy: FaultProxy, through: Aws, aws: Aws, bucket: str, tmp_path: Path
) -> None:
    """Some services write them in answers and not in lists: the short way leads there, too."""
    etag = aws.s3.put_object(Bucket=bucket, Key="a", Body=b"a")["ETag"]
    proxy.add("s3", "GetObject", Headers({"ETag": etag.strip('"')}), times=None)
    assert fetch(through, bucket, tmp_path / "to") == {"a": b"a"}
    assert directly(proxy.calls("s3", "GetObject")) == 1, proxy.told()


def test_an_object_that_always_comes_with_a_flipped_bit_is_an_error_and_no_file(
    proxy: FaultProxy, through: Aws, aws: Aws, bucket: str, tmp_path: Path
) -> None:
    """XF2."""
    aws.s3.put_object(Bucket=bucket, Key="a", Body=b"x" * 5000)
    proxy.add("s3", "GetObject", Flip(17), times=None)
    with pytest.raises(Exception, match="checksum"):
        fetch(through, bucket, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []
    assert len(proxy.calls("s3", "GetObject")) < 20


@pytest.mark.parametrize("fault", [Flip(5 * MIB), Cut(MIB), Refuse(500), Drop()], ids=str)
def test_a_large_object_comes_in_ranges_that_are_held_against_its_checksum(
    proxy: FaultProxy, through: Aws, aws: Aws, bucket: str, tmp_path: Path, fault: Fault
) -> None:
    """XF1, XF2."""
    big = tmp_path / "big"
    big.write_bytes(random.Random(7).randbytes(17 * MIB))
    upload(aws, bucket, [Upload(big, "big")], silent)
    assert fetch(through, bucket, tmp_path / "first")["big"] == big.read_bytes()
    ranges = proxy.calls("s3", "GetObject")
    assert sorted(request.headers["range"] for request in ranges) == [
        f"bytes={start}-{min(start + 8 * MIB, 17 * MIB) - 1}" for start in (0, 16 * MIB, 8 * MIB)
    ]
    assert directly(ranges) == 3
    proxy.add("s3", "GetObject", fault, skip=1)
    assert fetch(through, bucket, tmp_path / "second")["big"] == big.read_bytes(), proxy.told()
    assert left_over(tmp_path) == []


def test_what_came_in_parts_of_any_size_is_fetched_once(
    proxy: FaultProxy, through: Aws, aws: Aws, bucket: str, tmp_path: Path
) -> None:
    """Its ETag tells how many parts there were, and not how large: S3 is asked for that."""
    body = random.Random(5).randbytes(7 * MIB)
    made = aws.s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    parts = [
        aws.s3.upload_part(Bucket=bucket, Key="a", UploadId=made, PartNumber=number, Body=piece)["ETag"]
        for number, piece in ((1, body[: 6 * MIB]), (2, body[6 * MIB :]))
    ]
    numbered = [{"ETag": tag, "PartNumber": number} for number, tag in enumerate(parts, 1)]
    aws.s3.complete_multipart_upload(Bucket=bucket, Key="a", UploadId=made, MultipartUpload={"Parts": numbered})  # type: ignore[typeddict-item]
    assert fetch(through, bucket, tmp_path / "to") == {"a": body}
    assert len(proxy.calls("s3", "GetObject")) == 1
    assert len(proxy.calls("s3", "HeadObject")) == 2


def test_a_put_whose_answer_is_lost_is_sent_again_as_it_was(
    proxy: FaultProxy, through: Aws, bucket: str, tmp_path: Path
) -> None:
    """XF7."""
    uploads = files(tmp_path / "from", 6)
    proxy.add("s3", "PutObject", Lose(), skip=3)
    proxy.add("s3", "PutObject", UNAVAILABLE, skip=4)
    upload(through, bucket, uploads, silent)
    sent = {request.path: {other.headers["content-length"] for other in proxy.calls("s3", "PutObject") if other.path == request.path} for request in proxy.calls("s3", "PutObject")}  # fmt: skip
    assert all(len(lengths) <= 2 for lengths in sent.values())
    assert fetch(through, bucket, tmp_path / "to") == {item.key: item.path.read_bytes() for item in uploads}


def test_of_a_service_that_is_busy_for_long_no_more_is_asked_than_botocore_would(
    proxy: FaultProxy, through: Aws, aws: Aws, bucket: str, tmp_path: Path
) -> None:
    """XF16."""
    for number in range(12):
        aws.s3.put_object(Bucket=bucket, Key=f"{number}", Body=b"x")
    listed = list(objects_below(through, bucket, ""))
    proxy.add("s3", "GetObject", UNAVAILABLE, times=None)
    with pytest.raises(ScarError, match="12 of 12 not downloaded"):
        download(through, bucket, [Download(item, tmp_path / item.key) for item in listed], silent)
    gets = proxy.calls("s3", "GetObject")
    assert directly(gets) <= 12
    assert len(gets) - directly(gets) <= 12 * 3
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_half_written(through: Aws, aws: Aws, bucket: str, tmp_path: Path) -> None:
    for number in range(8):
        aws.s3.put_object(Bucket=bucket, Key=f"{number}", Body=b"x" * 700_000)
    listed = list(objects_below(through, bucket, ""))

    def one_after_another() -> Iterator[Download]:
        for item in listed[:6]:
            yield Download(item, tmp_path / "to" / item.key)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(through, bucket, one_after_another(), silent)
    assert left_over(tmp_path) == []
    for path in (tmp_path / "to").glob("*"):
        assert path.read_bytes() == b"x" * 700_000


def test_whoever_listens_to_the_calls_hears_of_all_of_them(
    proxy: FaultProxy, through: Aws, bucket: str, tmp_path: Path
) -> None:
    heard: list[str] = []
    through.hook("before-call.s3", lambda model, **_: heard.append(model.name))
    upload(through, bucket, files(tmp_path / "from", 5), silent)
    fetch(through, bucket, tmp_path / "to")
    assert (heard.count("PutObject"), heard.count("GetObject")) == (5, 5)


def test_a_bucket_that_is_not_there_is_asked_for_once_a_file_and_by_the_client(
    proxy: FaultProxy, through: Aws, tmp_path: Path
) -> None:
    with pytest.raises(ScarError, match="4 of 4 not uploaded"):
        upload(through, "no-such-bucket-here", files(tmp_path / "from", 4), silent)
    puts = proxy.calls("s3", "PutObject")
    assert (len(puts), directly(puts)) == (4, 0)


def test_checksums_of_pieces_make_that_of_the_whole() -> None:
    drawn = random.Random(3)
    for lengths in ([0], [1], [5, 0, 3], [8192, 8192, 17], [70_000, 1]):
        pieces = [drawn.randbytes(length) for length in lengths]
        parts = [(zlib.crc32(piece), len(piece)) for piece in pieces]
        assert digests.crc32_joined(parts) == zlib.crc32(b"".join(pieces))


def test_composite_checksums_are_not_taken_for_the_whole_objects() -> None:
    whole = {"x-amz-checksum-crc32": digests.crc32_text(7)}
    assert digests.crc32_of(whole) == 7
    assert digests.crc32_of({**whole, "x-amz-checksum-type": "FULL_OBJECT"}) == 7
    assert digests.crc32_of({**whole, "x-amz-checksum-type": "COMPOSITE"}) is None
    assert digests.crc32_of({"x-amz-checksum-crc32": "AAAABw==-3"}) is None
    assert digests.crc32_of({}) is None


def test_an_etag_is_a_digest_only_of_what_is_not_encrypted_with_a_key() -> None:
    md5 = '"0123456789abcdef0123456789abcdef"'
    assert digests.is_md5("bucket", md5, "")
    assert digests.is_md5("bucket", md5[:-1] + '-12"', "AES256")
    assert not digests.is_md5("bucket", md5, "aws:kms")
    assert not digests.is_md5("bucket--use1-az4--x-s3", md5, "")
    assert not digests.is_md5("bucket", '"some-etag"', "")
