"""The agent in images as small as they come: that it starts in each, and that nothing of it reaches the user's process."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from faassupervisor import contract
from scar.package import oci
from scar.package.agent import AgentLayer, Origin, agent_layer
from scar.package.derive import assemble, derive
from scar.package.layer import Directory, Entry, File, Link, layer_of
from tests.scar.package.images import run_inside, unpack

ENVIRONMENT = {
    "PATH": "/bin",
    "COLOUR": "blue",
    "LD_LIBRARY_PATH": "/image/lib",
    "LD_PRELOAD": "/image/lib/preloaded.so",
    "PYTHONPATH": "/image/python",
    "PYTHONHOME": "/image",
}
# What an image of that kind has where the agent, or what starts it, might look.
STRANGERS: dict[str, list[Entry]] = {
    "nothing": [],
    "another C library": [
        Directory("lib"),
        File("lib/ld-musl-x86_64.so.1", b"\x7fELF of musl", 0o755),
        File("lib/libc.musl-x86_64.so.1", b"\x7fELF of musl", 0o755),
        File("lib/libc.so.6", b"no library", 0o755),
        File("lib/libz.so.1", b"no library", 0o755),
    ],
    "broken libraries at the GNU C library's places": [
        Directory("lib"),
        Directory("lib/x86_64-linux-gnu"),
        Directory("lib64"),
        *(File(f"lib/x86_64-linux-gnu/{name}", b"no library", 0o755) for name in ("libc.so.6", "libssl.so.3", "libresolv.so.2")),
        File("lib64/ld-linux-x86-64.so.2", b"no loader", 0o755),
    ],
    "links that lead nowhere": [Link("lib", "/nowhere"), Link("usr", "/nowhere"), Link("etc", "/nowhere"), Link("tmp2", "tmp2")],
    "another Python": [
        Directory("usr"),
        Directory("usr/lib"),
        Directory("usr/lib/python3.11"),
        File("usr/lib/python3.11/os.py", b"raise SystemExit('the wrong Python')"),
        Directory("image"),
        Directory("image/python"),
        File("image/python/json.py", b"raise SystemExit('the wrong module')"),
        File("pyvenv.cfg", b"home = /image\n"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def agent(cache: Path) -> AgentLayer:
    return agent_layer(cache=cache, origin=Origin.DEBIAN)


def image_with(entries: list[Entry], agent: AgentLayer, **settings: object) -> oci.Image:
    """An image of one static program and `entries`."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    program = File("bin/busybox", Path(busybox).read_bytes(), 0o755)
    own = [Directory("bin"), program, Directory("dev"), File("dev/null", b""), Directory("tmp", 0o1777)]
    layer = layer_of([*own, *entries])
    config = {
        "architecture": agent.architecture,
        "os": "linux",
        "config": {"Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()], **settings},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    return assemble(config, (layer,))


def root_with(entries: list[Entry], agent: AgentLayer, script: bytes, root: Path) -> Path:
    base = image_with(entries, agent)
    image = derive(base, agent, spec=contract.Spec("f"), script=script)
    return unpack(image, root)


def shown(run: subprocess.CompletedProcess[str]) -> list[str]:
    assert run.returncode == 0, run.stderr
    output: str = json.loads(run.stdout)["runs"][0]["output"]
    return output.splitlines()


@pytest.mark.parametrize("kind", STRANGERS)
def test_the_agent_runs_a_script_in_an_image_with(kind: str, agent: AgentLayer, tmp_path: Path) -> None:
    script = b"#!/bin/busybox sh\necho it ran; exit 3\n"
    root = root_with(STRANGERS[kind], agent, script, tmp_path)
    run = run_inside(root, *agent.entrypoint, "--event", "-", stdin="{}")
    assert run.returncode == 3, run.stderr
    assert json.loads(run.stdout)["runs"][0]["output"] == "it ran\n"


def test_the_users_process_gets_the_images_environment_and_nothing_of_the_agents(
    agent: AgentLayer, tmp_path: Path
) -> None:
    root = root_with([], agent, b"#!/bin/busybox sh\nexec /bin/busybox env\n", tmp_path)
    base = image_with([], agent)
    derived = derive(base, agent, spec=contract.Spec("f"), script=None)
    config = json.loads(b"".join(derived.config.open()))["config"]
    container = dict(item.split("=", 1) for item in config["Env"])
    assert not [name for name in container if name.startswith(("LD_", "PYTHON"))]
    found = dict(
        line.split("=", 1)
        for line in shown(run_inside(root, *agent.entrypoint, "--event", "-", environment=container, stdin="{}"))
    )
    assert {name: found.get(name) for name in ENVIRONMENT} == ENVIRONMENT
    ours = ("LD_", "PYTHON", "LC_", "LANG", "OPENSSL", "SSL_", "_")
    assert {name for name in found if name.startswith(ours)} <= set(ENVIRONMENT)
    assert not [value for name, value in found.items() if "/opt/scar" in value and not name.startswith("SCAR_")]


def test_the_users_process_inherits_no_open_file_of_the_agent(agent: AgentLayer, tmp_path: Path) -> None:
    script = b"#!/bin/busybox sh\nfor n in 3 4 5 6 7 8 9; do { true <&$n; } 2>/dev/null && echo $n; done; echo end\n"
    root = root_with([], agent, script, tmp_path)
    # The shell keeps one for the script that it reads.
    found = shown(run_inside(root, *agent.entrypoint, "--event", "-", stdin="{}"))
    assert found[-1] == "end"
    assert len(found) <= 2


def test_the_agent_runs_on_a_read_only_root_as_a_user_whom_the_image_does_not_know(
    agent: AgentLayer, tmp_path: Path
) -> None:
    root = root_with([], agent, b"#!/bin/busybox sh\n/bin/busybox id -u\n", tmp_path)
    words = " ".join((*agent.entrypoint, "--event", "-"))
    inner = (
        f"mount --bind {root} {root} && mount --bind /dev/null {root}/dev/null && mount -o remount,bind,ro {root} && mount -t tmpfs tmpfs {root}/tmp && "
        f"chmod 1777 {root}/tmp && exec unshare -U --map-user=993 --map-group=993 --root {root} {words}"
    )
    run = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", inner], input="{}", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shown(run) == ["993"]
