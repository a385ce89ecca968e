"""An S3 to talk to: moto's own server in this process, on a free port of 127.0.0.1."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from scar.aws.clients import Access, Aws
from scar.cli import main
from tests.support.runs_edge import Said, Scar, World, served


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture
def aws(moto_url: str) -> Aws:
    return Aws(Access(region="us-east-1", endpoint_url=moto_url, access_key="a", secret_key="b"))


@pytest.fixture
def bucket(aws: Aws, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name = f"b-{abs(hash(request.node.nodeid)):x}"
    aws.s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def _wire() -> Iterator[tuple[str, list[World]]]:
    current: list[World] = []
    with served(lambda: current[-1]) as url:
        yield url, current


@pytest.fixture
def world(_wire: tuple[str, list[World]], monkeypatch: pytest.MonkeyPatch) -> World:
    """A Lambda and a Batch of the test's own, which the command finds through its environment."""
    url, current = _wire
    made = World(url)
    current.append(made)
    for name, value in made.environ().items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def scar(world: World, capsys: pytest.CaptureFixture[str]) -> Scar:
    def run(*words: str) -> Said:
        capsys.readouterr()
        code = main(words)
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return run
