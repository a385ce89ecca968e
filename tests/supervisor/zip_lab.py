"""The agent as a zip function has it: laid out as at /var/task, in a sandbox like Lambda's, with an image from S3 or a registry."""

from __future__ import annotations

import base64
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import botocore
import pytest

from faassupervisor.contract import RootFilesystem
from scar.package.agent.fakechroot import libraries
from tests.supervisor import images
from tests.supervisor.conftest import PACKAGE, Agent, Lab

# The interpreter of the virtual environment may lie where only root can go; what it has installed does not.
_PYTHON = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable
HERE = Path(__file__).parent


class ZipLab(Lab):
    """Its agents run as `/var/task` would hold them: `app`, `fakechroot`, `function` side by side."""

    def __init__(self, home: Path, endpoint: str, stack: ExitStack) -> None:
        super().__init__(home, endpoint, stack)
        self.image: RootFilesystem | None = None
        home.chmod(0o755)
        shutil.copytree(
            PACKAGE / "faassupervisor", home / "app/faassupervisor", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(PACKAGE.parent / "scar/package/agent/agent_main.py", home / "app/__main__.py")
        shutil.copy(HERE / "lambdalike.py", home / "lambdalike.py")

    def function(self, script: str | bytes | None = None, **spec: Any) -> Path:
        return super().function(script, **{"root": self.image, **spec})

    def command(self, function: Path) -> list[str]:
        return [
            *(sys.executable, str(self.home / "lambdalike.py"), str(self.temporary)),
            *(_PYTHON, "-B", str(self.home / "app"), "--function", str(function), "--tmp", str(self.temporary)),
        ]

    def environment(self, **more: str) -> dict[str, str]:
        """What Lambda's managed runtime for Python has around a wrapper script."""
        return {
            **super().environment(),
            "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
            "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/task:/opt/lib",
            "LANG": "en_US.UTF-8",
            "PWD": "/var/task",
            "AWS_LAMBDA_EXEC_WRAPPER": "/var/task/scar-bootstrap",
            "PYTHONPATH": str(Path(botocore.__file__).parents[1]),
            **more,
        }

    def root_of(self, agent: Agent) -> Path:
        (root,) = agent.temporary.glob("scar-root-*")
        return root


def direct(script: str, *arguments: str) -> dict[str, Any]:
    return {"script": base64.b64encode(script.encode()).decode(), "cmd_args": list(arguments)}


def output_of(answer: Any) -> str:
    assert answer.error_type is None, answer.body
    return str(answer.document["runs"][0]["output"])


@pytest.fixture(scope="session")
def fakechroot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The libraries as the agent's zip has them."""
    cache = Path(os.environ.get("SCAR_CACHE") or tmp_path_factory.mktemp("cache"))
    folder = tmp_path_factory.mktemp("fakechroot")
    for least, library in libraries("amd64", cache=cache).items():
        (folder / least).mkdir()
        (folder / least / "libfakechroot.so").write_bytes(library)
    return folder


@pytest.fixture(scope="session")
def registry() -> Iterator[images.BlobServer]:
    """Holds the layers of the two images; tests may add theirs."""
    layers = (images.shell(), images.languages())
    with images.BlobServer({images.digest(layer): layer for layer in layers}) as server:
        yield server


@pytest.fixture
def zip_lab(fakechroot: Path, s3_endpoint: str, registry: images.BlobServer) -> Iterator[ZipLab]:
    """A lab whose functions run the image `images.shell()`."""
    home = Path(tempfile.gettempdir(), f"scar-zip-{uuid.uuid4().hex[:8]}")
    home.mkdir()
    with ExitStack() as stack:
        stack.callback(_remove, home)
        lab = ZipLab(home, s3_endpoint, stack)
        shutil.copytree(fakechroot, home / "fakechroot")
        (home / "fakechroot").chmod(0o755)
        lab.image = images.root(registry.source, [images.shell()])
        yield lab


def _remove(home: Path) -> None:
    for folder, names, _ in os.walk(home):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(home)


__all__ = ["ZipLab", "direct", "fakechroot", "output_of", "registry", "zip_lab"]
