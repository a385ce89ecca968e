"""Images that are on this machine already: in Podman's store, and behind the API that Docker's daemon and Podman's service speak."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import os
import socket
import socketserver
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scar.errors import DeniedError, NotFoundError, ScarError, ServiceError, UsageError
from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.cache import in_cache
from scar.package.derive import read_config
from scar.package.source import open_image
from scar.package.source.store import _KEPT_BYTES, saved_image
from tests.scar.package.images import bytes_of, tar_of
from tests.scar.package.test_image_source import PLAIN, saved

needs_podman = pytest.mark.skipif(
    os.geteuid() != 0, reason="rootless podman needs sub-uids, which a bare test user has not"
)
OTHER = "arm64" if host_architecture() == "amd64" else "amd64"


def opened(image: str, cache: Path, docker_host: str | None = None) -> oci.Image:
    return open_image(image, None, architecture=host_architecture(), cache=cache, docker_host=docker_host)


def archives(cache: Path) -> list[Path]:
    return sorted((cache / "stores").glob("*/image.tar"))


def podman(*arguments: str) -> str:
    return subprocess.run(["podman", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def podman_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of our own in Podman's store; it goes with the tests."""
    yield from _imported(tmp_path_factory.mktemp("image"))


@pytest.fixture
def own_image(tmp_path: Path) -> Iterator[str]:
    """One that a test may change."""
    yield from _imported(tmp_path)


def _imported(folder: Path) -> Iterator[str]:
    name = f"localhost/scar-test-{os.getpid()}:{time.monotonic_ns()}"
    made = [make(name, folder, "first")]
    yield name
    # What a test made anew took the name away from the first.
    made.append(podman("image", "inspect", "--format", "{{.Id}}", name))
    subprocess.run(["podman", "rmi", "--force", "--ignore", *made], check=False, capture_output=True)


def make(name: str, folder: Path, text: str, *options: str) -> str:
    """An image in Podman's store; its id."""
    (folder / "root.tar").write_bytes(tar_of({"note": text.encode()}))
    return podman("import", "--quiet", "--change", 'CMD ["/note"]', *options, str(folder / "root.tar"), name)


def notes(image: oci.Image) -> list[bytes]:
    found = []
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(bytes_of(layer)))) as tar:
            note = tar.extractfile("note")
            found.append(note.read() if note else b"")
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Podman's service, which answers as Docker's daemon does."""
    address = f"unix://{tmp_path_factory.mktemp('podman')}/docker.sock"
    process = subprocess.Popen(
        ["podman", "system", "service", "--time=0", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while not _answers(address.removeprefix("unix://")):
        assert process.poll() is None, "podman system service ended"
        assert time.monotonic() < deadline, "podman system service does not answer"
        time.sleep(0.05)
    yield address
    process.terminate()
    process.wait(10)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(path) == 0


@needs_podman
def test_an_image_of_podmans_store_is_the_image_that_its_archive_gives(podman_image: str, tmp_path: Path) -> None:
    image = opened(f"containers-storage:{podman_image}", tmp_path / "cache")
    assert notes(image) == [b"first"]
    assert read_config(image)["config"]["Cmd"] == ["/note"]
    podman("save", "--quiet", "--format", "docker-archive", "--output", str(tmp_path / "x.tar"), podman_image)
    file = open_image(None, tmp_path / "x.tar", architecture=host_architecture(), cache=tmp_path / "other")
    assert file.digest == image.digest


@needs_podman
def test_dockers_api_gives_the_same_image(podman_image: str, service: str, tmp_path: Path) -> None:
    by_api = opened(f"docker-daemon:{podman_image}", tmp_path / "1", service)
    by_program = opened(f"containers-storage:{podman_image}", tmp_path / "2")
    assert notes(by_api) == [b"first"]
    assert by_api.digest == by_program.digest


@needs_podman
def test_an_unchanged_image_is_saved_once_and_a_changed_one_anew(own_image: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    opened(f"containers-storage:{own_image}", cache)
    (first,) = archives(cache)
    written = first.stat().st_mtime_ns
    opened(f"containers-storage:{own_image}", cache)
    assert [path.stat().st_mtime_ns for path in archives(cache)] == [written]
    make(own_image, tmp_path, "second")
    assert notes(opened(f"containers-storage:{own_image}", cache)) == [b"second"]
    assert len(archives(cache)) == 2


@needs_podman
def test_a_damaged_archive_in_the_cache_is_saved_anew(podman_image: str, tmp_path: Path) -> None:
    name, cache = f"containers-storage:{podman_image}", tmp_path / "cache"
    opened(name, cache)
    (kept,) = archives(cache)
    kept.write_bytes(b"not a tar")
    with pytest.raises(ScarError, match="not a readable tar"):
        opened(name, cache)
    assert notes(opened(name, cache)) == [b"first"]


@needs_podman
def test_an_image_for_another_processor_is_refused_before_it_is_saved(own_image: str, tmp_path: Path) -> None:
    make(own_image, tmp_path, "foreign", "--arch", OTHER)
    with pytest.raises(ScarError, match=f"is for {OTHER}, the function for {host_architecture()}") as refused:
        opened(f"containers-storage:{own_image}", tmp_path / "cache")
    assert f"--platform linux/{host_architecture()}" in str(refused.value)
    assert archives(tmp_path / "cache") == []


@needs_podman
def test_an_image_that_is_not_there_is_named_with_the_store_to_look_in(service: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Podman has no image 'localhost/scar-none'"):
        opened("containers-storage:localhost/scar-none", tmp_path)
    with pytest.raises(NotFoundError, match="has no image 'localhost/scar-none'") as raised:
        opened("docker-daemon:localhost/scar-none", tmp_path, service)
    assert service in str(raised.value)


@pytest.mark.parametrize("name", ["--all", "-f", "../containers/x", "x y", "X", "x?all=1", ""])
def test_a_name_is_never_an_option_or_a_path(name: str, tmp_path: Path) -> None:
    for store in ("docker-daemon", "containers-storage"):
        with pytest.raises(UsageError):
            opened(f"{store}:{name}", tmp_path, f"unix://{tmp_path}/none.sock")


def test_a_daemon_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no Docker daemon answers at unix:///") as raised:
        opened("docker-daemon:x", tmp_path, f"unix://{tmp_path}/none.sock")
    assert "DOCKER_HOST" in str(raised.value)
    for elsewhere in ("ssh://me@far", "tcp://far:2375", "far", "unix://"):
        with pytest.raises(UsageError, match="socket of this machine only"):
            opened("docker-daemon:x", tmp_path, elsewhere)


def test_a_socket_that_may_not_be_opened_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "docker.sock"))
        listening.listen()
        (tmp_path / "docker.sock").chmod(0)
        with as_nobody(), pytest.raises(DeniedError, match="may not be opened"):
            opened("docker-daemon:x", tmp_path, f"unix://{tmp_path}/docker.sock")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, which open every socket."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


class Daemon:
    """A daemon of the tests' own, for answers that a real one gives on its bad days only."""

    def __init__(self, folder: Path) -> None:
        self.inspect: object = {
            "Id": "sha256:" + "a" * 64,
            "Os": "linux",
            "Architecture": host_architecture(),
            "Size": 1,
        }
        self.status, self.archive, self.announced = 200, tar_of(saved()), 0
        self.asked: list[str] = []
        daemon = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...
            def address_string(self) -> str:
                return "unix"

            def do_GET(self) -> None:
                daemon.asked.append(self.path)
                inspects = self.path.endswith("/json")
                body = json.dumps(daemon.inspect).encode() if inspects else daemon.archive
                self.send_response(daemon.status)
                self.send_header("Content-Length", str(len(body) + (0 if inspects else daemon.announced)))
                self.end_headers()
                self.wfile.write(body)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self.address = f"unix://{folder}/daemon.sock"
        self._server = Server(f"{folder}/daemon.sock", Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path)
    yield running
    running.close()


def test_a_daemon_is_asked_by_name_and_gives_the_image_by_its_id(daemon: Daemon, tmp_path: Path) -> None:
    image = opened("docker-daemon:registry.example:5000/me/x:1", tmp_path / "cache", daemon.address)
    assert [gzip.decompress(bytes_of(layer)) for layer in image.layers] == [PLAIN]
    assert daemon.asked == ["/images/registry.example:5000/me/x:1/json", f"/images/sha256:{'a' * 64}/get"]


def test_a_transfer_that_is_cut_leaves_nothing_in_the_cache(daemon: Daemon, tmp_path: Path) -> None:
    daemon.announced = 10
    with pytest.raises(ServiceError, match="stopped sending"):
        opened("docker-daemon:x", tmp_path / "cache", daemon.address)
    assert archives(tmp_path / "cache") == []
    daemon.announced = 0
    assert len(opened("docker-daemon:x", tmp_path / "cache", daemon.address).layers) == 1


@pytest.mark.parametrize(
    ("inspect", "status", "reason"),
    [
        ({"Id": "sha256:" + "a" * 64, "Os": "linux", "Architecture": host_architecture(), "Size": 11 << 30}, 200, "11.0 GiB"),
        ({"Id": "sha256:" + "a" * 64, "Os": "windows", "Architecture": host_architecture(), "Size": 1}, 200, "windows"),
        ({"Id": "../../etc", "Os": "linux", "Architecture": host_architecture(), "Size": 1}, 200, r"\.\./\.\./etc"),
        ({"Id": "sha256:" + "a" * 64, "Os": "linux", "Architecture": "riscv64", "Size": 1}, 200, "riscv64"),
        ({"Id": 7}, 200, "not understood"),
        ([], 200, "not understood"),
        ({"message": "the disk is full"}, 500, "answered 500: .*the disk is full"),
    ],
)  # fmt: skip
def test_what_a_daemon_says_is_not_believed(
    daemon: Daemon, tmp_path: Path, inspect: object, status: int, reason: str
) -> None:
    daemon.inspect, daemon.status = inspect, status
    with pytest.raises(ScarError, match=reason):
        opened("docker-daemon:x", tmp_path / "cache", daemon.address)
    assert archives(tmp_path / "cache") == []


def test_the_cache_of_stores_is_bounded_by_what_was_not_used_for_the_longest(daemon: Daemon, tmp_path: Path) -> None:
    stores = tmp_path / "cache" / "stores"
    now = time.time()
    for name, age_h, size in (("old", 50, 5 << 30), ("older", 60, 5 << 30), ("in use", 70, _KEPT_BYTES)):
        (stores / name).mkdir(parents=True)
        with (stores / name / "image.tar").open("wb") as archive:
            archive.truncate(size)  # holes take no room
        (stores / name / "lock").touch()
        os.utime(stores / name / "lock", (now - age_h * 3600, now - age_h * 3600))
    with in_cache(stores / "in use"):
        pass  # whoever takes from it holds it until the process ends
    saved_image(
        "docker-daemon", "x", architecture=host_architecture(), docker_host=daemon.address, cache=tmp_path / "cache",
        tell=lambda done, total, what: None,
    )  # fmt: skip
    assert {path.name for path in stores.iterdir()} == {"in use", "a" * 64}
