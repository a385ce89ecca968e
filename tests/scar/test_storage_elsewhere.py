"""The agent's backends for other storage, held against real servers: whole or absent, bounded, and never a credential in a message."""

from __future__ import annotations

import io
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from faassupervisor.aws import Aws
from faassupervisor.contract import Provider
from faassupervisor.deadline import Deadline
from faassupervisor.errors import AgentError, NoRoomError, StageInError, StageOutError
from faassupervisor.events.items import ObjectItem
from faassupervisor.storage import Fetched, Store, Stores, Upload, guard
from tests.support.certificates import Authority
from tests.support.storage_servers import (
    ACCESS_KEY,
    LOGIN,
    PASSWORD,
    SECRET_KEY,
    Dav,
    Lab,
    Parameters,
    basic,
    lab,
    parameters,
    webdav,
)

KEYS = {
    "webdav": {"login": LOGIN, "password": PASSWORD},
    "minio": {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY},
}
HOSTILE = ["two words.txt", "a+b.txt", "über-😀.txt", 'it\'s "q" #&=.txt', "-rf", "*", "in/deep/er/x"]
# Each server takes what the other does not: nanio decodes names twice, wsgidav cuts a Destination at its question mark.
MORE = {"minio": ["a?b;c"], "webdav": ["100%20%2F"]}


@pytest.fixture(scope="module")
def ssm() -> Iterator[str]:
    with parameters() as url:
        Parameters.values |= {f"/{kind}": json.dumps(keys) for kind, keys in KEYS.items()}
        yield url


@pytest.fixture
def store(ssm: str) -> Callable[..., Store]:
    def make(kind: str, endpoint: str, *, secret: str = "", private: bool = True, **more: Any) -> Store:
        variables = {
            "AWS_ENDPOINT_URL_SSM": ssm,
            "AWS_ACCESS_KEY_ID": "role",
            "AWS_SECRET_ACCESS_KEY": "of-the-role",
            **more.pop("variables", {}),
        }
        provider = Provider(f"{kind}.x", secret or f"/{kind}", endpoint, private=private, **more)
        return Stores(Aws(variables), (provider,)).of(f"{kind}.x")

    return make


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("minio")) as server:
        server.bucket("bucket")
        yield server


@pytest.fixture(scope="module")
def _dav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dav]:
    with webdav(tmp_path_factory.mktemp("dav")) as server:
        yield server


@pytest.fixture
def dav(_dav: Dav) -> Dav:
    _dav.requests.clear()
    _dav.refuse = lambda method, path: None
    return _dav


def soon(seconds: float = 30) -> Deadline:
    return Deadline(seconds, 0)


def item(kind: str, key: str, **more: Any) -> ObjectItem:
    return ObjectItem(f"{kind}.x", "bucket", key, b"{}", **more)


def upload(kind: str, key: str, content: bytes) -> Upload:
    return Upload("bucket", key, len(content), lambda: io.BytesIO(content), f"{kind}.x")


def refused(call: Callable[[], object], error: type[AgentError]) -> str:
    with pytest.raises(error) as told:
        call()
    for secret in (PASSWORD, SECRET_KEY, basic().split()[1]):
        assert secret not in told.value.message
    return told.value.message


@pytest.mark.parametrize("kind", ["minio", "webdav"])
def test_what_is_published_is_fetched_again_byte_for_byte_under_any_name(
    kind: str, store: Callable[..., Store], dav: Dav, minio: Lab, tmp_path: Path
) -> None:
    """KEY1-KEY7 at other storage."""
    there = store(kind, dav.endpoint if kind == "webdav" else minio.endpoint)
    names = HOSTILE + MORE[kind]
    files = [upload(kind, f"out/{name}", name.encode() * 100) for name in names]
    assert there.publish(files, soon()) == tuple(f"{kind}.x://bucket/out/{name}" for name in names)
    for name in names:
        fetched = there.fetch(item(kind, f"out/{name}"), tmp_path / "target", soon())
        assert (fetched.size, (tmp_path / "target").read_bytes()) == (len(name.encode()) * 100, name.encode() * 100)


def test_objects_carry_their_lineage_through_minio(store: Callable[..., Store], minio: Lab, tmp_path: Path) -> None:
    there = store("minio", minio.endpoint)
    large = upload("minio", "chain/large", bytes(17 * 1024 * 1024))
    there.publish([upload("minio", "chain/small", b"x"), large], soon(), ("first", "second"))
    assert minio.lineage("bucket", "chain/large") == "first,second"
    assert there.fetch(item("minio", "chain/small"), tmp_path / "t", soon()) == Fetched(1, ("first", "second"))


def test_nobody_ever_sees_a_part_of_a_file(store: Callable[..., Store], dav: Dav) -> None:
    """XF6: it lies under a name of its own until it is whole; an upload that fails leaves nothing."""
    there = store("webdav", dav.endpoint)
    there.publish([upload("webdav", "whole/a", b"1")], soon())
    assert dav.methods() == ["PUT", "MKCOL", "MKCOL", "PUT", "MOVE", "HEAD"]
    assert all(path != "/bucket/whole/a" for method, path, _ in dav.requests if method == "PUT")
    dav.refuse = lambda method, path: 507 if method == "MOVE" else None
    message = refused(
        lambda: there.publish([upload("webdav", "whole/a", b"2"), upload("webdav", "whole/b", b"3")], soon()),
        StageOutError,
    )
    assert message == (
        "webdav.x://bucket/whole/a cannot be written: the server has no room left (the server answers 507)"
    )
    assert (dav.folder / "bucket/whole/a").read_bytes() == b"1"
    assert [name for name in dav.files() if name.startswith("bucket/whole")] == ["bucket/whole/a"]


def test_a_name_that_a_server_cuts_is_no_success(store: Callable[..., Store], dav: Dav) -> None:
    there = store("webdav", dav.endpoint)
    message = refused(lambda: there.publish([upload("webdav", "cut?off", b"1")], soon()), StageOutError)
    assert "does not find it under its name" in message


def test_what_was_published_before_a_failure_is_told(store: Callable[..., Store], dav: Dav) -> None:
    dav.refuse = lambda method, path: 403 if method == "MKCOL" and "locked" in path else None
    files = [upload("webdav", "open/a", b"1"), upload("webdav", "locked/b", b"2")]
    with pytest.raises(StageOutError) as told:
        store("webdav", dav.endpoint).publish(files, soon())
    assert told.value.published == ("webdav.x://bucket/open/a",)
    assert "its folder cannot be made: the login may not do this (the server answers 403)" in told.value.message


def test_a_file_that_becomes_shorter_and_time_that_is_over_publish_nothing(
    store: Callable[..., Store], dav: Dav
) -> None:
    there = store("webdav", dav.endpoint)
    short = Upload("bucket", "short/x", 100, lambda: io.BytesIO(b"only this"), "webdav.x")
    assert "became shorter" in refused(lambda: there.publish([short], soon()), StageOutError)
    late = refused(lambda: there.publish([upload("webdav", "short/y", b"1")], soon(0)), StageOutError)
    assert late.startswith("webdav.x://bucket/short/y")
    assert not [name for name in dav.files() if "short" in name]


@pytest.mark.parametrize("key", ["../etc/passwd", "a/../../x", "a//b", ".", "a/./b", "a/"])
def test_a_path_that_a_server_would_resolve_is_not_asked_for(
    key: str, store: Callable[..., Store], dav: Dav, tmp_path: Path
) -> None:
    """KEY8 and the predecessors' F21: a name from an event never climbs."""
    there = store("webdav", dav.endpoint)
    if key == "a/":  # a folder's own name: its slash falls, and a folder is no file
        assert "cannot be read" in refused(
            lambda: there.fetch(item("webdav", key), tmp_path / "t", soon()), StageInError
        )
        return
    message = refused(lambda: there.fetch(item("webdav", key), tmp_path / "t", soon()), StageInError)
    assert "is no path that a WebDAV server could be asked for" in message
    assert dav.requests == []


def test_a_wrong_password_and_a_wrong_secret_are_told_without_them(
    store: Callable[..., Store], dav: Dav, minio: Lab, tmp_path: Path
) -> None:
    Parameters.values["/bad-dav"] = json.dumps({"login": LOGIN, "password": "canary-wrong"})
    Parameters.values["/bad-key"] = json.dumps({"access_key": "NOBODY", "secret_key": "canary-wrong"})
    Parameters.values["/bad-secret"] = json.dumps({"access_key": ACCESS_KEY, "secret_key": "canary-wrong"})
    minio.client.put_object(Bucket="bucket", Key="x", Body=b"x")
    told = {
        "/bad-dav": "the login or the password is wrong (the server answers 401)",
        "/bad-key": "there is no such access key there",
        "/bad-secret": "the secret key is not that of the access key",
    }
    for secret, reason in told.items():
        kind = "webdav" if "dav" in secret else "minio"
        there = store(kind, dav.endpoint if kind == "webdav" else minio.endpoint, secret=secret)
        message = refused(
            lambda there=there, kind=kind: there.fetch(item(kind, "x"), tmp_path / "t", soon()), StageInError
        )
        assert message == f"{kind}.x://bucket/x cannot be read: {reason}"
        message = refused(
            lambda there=there, kind=kind: there.publish([upload(kind, "y", b"1")], soon()), StageOutError
        )
        assert reason in message
        assert "canary" not in message


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("canary-not-json", "hold no JSON object"),
        ('["canary"]', "hold no JSON object of strings"),
        ('{"login": "ada"}', "lack password"),
        (None, "cannot be read: it does not exist"),
    ],
)
def test_credentials_that_cannot_be_used_are_named_and_not_shown(
    value: str | None, reason: str, store: Callable[..., Store], dav: Dav, tmp_path: Path
) -> None:
    if value is not None:
        Parameters.values["/broken"] = value
    else:
        Parameters.values.pop("/broken", None)
    there = store("webdav", dav.endpoint, secret="/broken")
    message = refused(lambda: there.fetch(item("webdav", "x"), tmp_path / "t", soon()), StageInError)
    assert f"the credentials of webdav.x (SSM parameter /broken) {reason}" in message
    assert "canary" not in message
    assert dav.requests == []


def test_a_throttled_parameter_store_is_asked_again_and_a_role_that_may_not_is_told(
    store: Callable[..., Store], dav: Dav, tmp_path: Path
) -> None:
    (dav.folder / "bucket").mkdir(exist_ok=True)
    (dav.folder / "bucket/x").write_bytes(b"x")
    Parameters.answers[:] = [500, 429]
    there = store("webdav", dav.endpoint)
    assert there.fetch(item("webdav", "x"), tmp_path / "t", soon()).size == 1
    before = len(Parameters.asked)
    there.fetch(item("webdav", "x"), tmp_path / "u", soon())
    assert len(Parameters.asked) == before  # it is remembered for a while
    Parameters.answers[:] = [403]
    message = refused(
        lambda: store("webdav", dav.endpoint).fetch(item("webdav", "x"), tmp_path / "v", soon()), StageInError
    )
    assert "the function's role needs ssm:GetParameter on it" in message


@pytest.mark.parametrize("kind", ["minio", "webdav"])
def test_addresses_of_private_networks_need_leave(
    kind: str, store: Callable[..., Store], dav: Dav, tmp_path: Path
) -> None:
    """SE12: looked at when the socket is connected, so that a name which means two things gains nothing."""
    host = dav.endpoint.replace("127.0.0.1", "localhost")
    if kind == "webdav":
        without_tls = store(kind, host, private=False)
        message = refused(lambda: without_tls.fetch(item(kind, "x"), tmp_path / "t", soon()), StageInError)
        assert "a password is sent without TLS only to a provider with `private: true`" in message
        host = host.replace("http:", "https:")
    there = store(kind, host, private=False)
    message = refused(lambda: there.fetch(item(kind, "x"), tmp_path / "t", soon()), StageInError)
    assert "localhost is " in message
    assert "an address of a private network, which only a provider with `private: true` may have" in message
    assert "private network" in refused(lambda: there.publish([upload(kind, "x", b"1")], soon()), StageOutError)
    assert dav.requests == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("::1", False),
        ("fe80::1%eth0", False), ("fd00:ec2::254", False), ("::ffff:127.0.0.1", False), ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False), ("64:ff9b::5db8:d822", True), ("2002:7f00:1::", False), ("2606:2800:220:1::1", True),
    ],
)  # fmt: skip
def test_an_address_is_public_or_it_is_not_whatever_it_is_dressed_as(address: str, public: bool) -> None:
    """SE12."""
    assert guard.is_public(address) is public


def test_a_reader_is_sent_on_without_the_password_and_never_into_a_private_network(
    store: Callable[..., Store], dav: Dav, tmp_path: Path
) -> None:
    """SE12: as dCache sends a reader to the machine that has the file."""
    (dav.folder / "bucket").mkdir(exist_ok=True)
    (dav.folder / "bucket/there").write_bytes(b"x")
    elsewhere = dav.endpoint.replace("127.0.0.1", "localhost")
    dav.refuse = lambda method, path: (302, f"{elsewhere}/moved?uuid=1") if path.endswith("there") else None
    there = store("webdav", dav.endpoint)
    assert "(the server answers 401)" in refused(
        lambda: there.fetch(item("webdav", "there"), tmp_path / "t", soon()), StageInError
    )
    (_, _, first), (_, path, second) = dav.requests
    assert (first["authorization"], path, "authorization" in second) == (basic(), "/moved", False)
    for location in ("file:///etc/passwd", f"{dav.endpoint}/bucket/there"):
        dav.refuse = lambda method, path, location=location: (302, location)
        refused(lambda: there.fetch(item("webdav", "there"), tmp_path / "t", soon()), StageInError)
    assert len(dav.requests) < 10
    dav.refuse = lambda method, path: (307, f"{elsewhere}/x") if method == "PUT" else None
    assert "sends us to another address" in refused(
        lambda: there.publish([upload("webdav", "x", b"1")], soon()), StageOutError
    )
    assert not list(tmp_path.iterdir())


def test_a_body_that_breaks_is_asked_for_again_from_where_it_broke(store: Callable[..., Store], tmp_path: Path) -> None:
    """XF1."""
    content = bytes(range(256)) * 12_000
    ranges: list[str | None] = []

    class Breaking(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(content[start : start + 1_500_000])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        there = store("webdav", f"http://127.0.0.1:{server.server_port}")
        assert there.fetch(item("webdav", "x"), tmp_path / "t", soon()).size == len(content)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (tmp_path / "t").read_bytes() == content
    assert ranges[0] is None
    assert all(each in ("bytes=1500000-", "bytes=3000000-") for each in ranges[1:])
    assert len(ranges) == 3


def test_what_the_disk_has_no_room_for_is_not_begun(store: Callable[..., Store], tmp_path: Path) -> None:
    """XF11."""

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(10**16))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        there = store("webdav", f"http://127.0.0.1:{server.server_port}")
        assert "raise the function's ephemeral storage" in refused(
            lambda: there.fetch(item("webdav", "x"), tmp_path / "t", soon()), NoRoomError
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not list(tmp_path.iterdir())


def test_a_certificate_is_checked_unless_the_provider_says_otherwise(
    store: Callable[..., Store], tmp_path: Path
) -> None:
    """SE13: one's own authority is trusted by AWS_CA_BUNDLE; anyone's only by `verify: false`."""
    authority = Authority(tmp_path)
    pair = authority.certify("127.0.0.1", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    (tmp_path / "dav/bucket").mkdir(parents=True)
    (tmp_path / "dav/bucket/x").write_bytes(b"x")
    with webdav(tmp_path / "dav", context) as dav:
        message = refused(
            lambda: store("webdav", dav.endpoint).fetch(item("webdav", "x"), tmp_path / "t", soon()), StageInError
        )
        assert "certificate" in message.lower()
        assert dav.requests == []
        known = store("webdav", dav.endpoint, variables={"AWS_CA_BUNDLE": str(authority.certificate)})
        assert known.fetch(item("webdav", "x"), tmp_path / "t", soon()).size == 1
        wrong = dav.endpoint.replace("127.0.0.1", "localhost")
        bundle = {"AWS_CA_BUNDLE": str(authority.certificate)}
        refused(
            lambda: store("webdav", wrong, variables=bundle).fetch(item("webdav", "x"), tmp_path / "u", soon()),
            StageInError,
        )
        assert store("webdav", wrong, verify=False).fetch(item("webdav", "x"), tmp_path / "v", soon()).size == 1
