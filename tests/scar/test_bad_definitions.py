"""A wrong definition file: everything is said at once, and not one request leaves this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scar.cli import main

CASES = sorted((Path(__file__).parents[1] / "cases" / "fdl" / "bad").glob("*.yaml"))


@pytest.fixture(scope="module")
def requests_seen() -> Iterator[tuple[str, list[str]]]:
    """A server in AWS's place that only counts who comes."""
    seen: list[str] = []

    class Counter(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            seen.append(self.path)
            self.send_error(500)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_there_are_at_least_forty_of_them() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_it_is_refused_with_a_place_and_nothing_is_asked_of_aws(
    case: Path,
    requests_seen: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, seen = requests_seen
    for key, value in {
        "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    assert main(["init", "-f", str(case)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{case}:" in said.err
    assert "Traceback" not in said.err
    assert seen == []
