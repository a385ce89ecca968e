"""For every test: Ctrl-C counts, whoever started pytest. A shell's background job ignores it, and so would every command that a test starts."""

from __future__ import annotations

import signal

import pytest

from tests.chaos.choice import SEED

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    chaos = parser.getgroup("chaos")
    chaos.addoption("--whole", action="store_true", help="sweeps break every point, and soaks last their whole length")
    chaos.addoption(
        "--seed", type=int, default=SEED, help=f"which points are chosen where not all are broken (default {SEED})"
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"chaos: {'every point' if config.getoption('--whole') else 'a choice of points'}, --seed {config.getoption('--seed')}"
