"""PRoot's loader, which it writes into /tmp, goes when the sandbox goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scar.local.sandbox.proot import PRoot


def loaders() -> set[str]:
    return {path.name for path in Path("/tmp").glob("prooted-*")}


@pytest.mark.skipif(shutil.which("proot") is None, reason="proot is not installed; the gate installs it")
def test_a_run_leaves_no_loader_behind(tmp_path: Path) -> None:
    before = loaders()
    tmp_path.chmod(0o755)
    assert PRoot(tmp_path).probe() is None
    assert loaders() <= before
