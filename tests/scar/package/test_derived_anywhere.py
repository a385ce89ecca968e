"""A derived image is the same wherever it is made, moves few bytes when little has changed, and runs where a registry gave it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from faassupervisor import contract
from scar.package import oci
from scar.package.agent import AgentLayer
from scar.package.derive import assemble, derive, read_config
from scar.package.layer import Directory, File, Link, layer_of
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials
from scar.package.registry.push import push
from scar.package.source import open_image
from tests.scar.package.images import config_of, digest_of
from tests.support.registries import PASSWORD, USER, RunningRegistry
from tests.support.wires import Wire

ROOT = Path(__file__).parents[3]
BUSYBOX = Path("/bin/busybox")  # Debian's busybox-static
OWN = {
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ['echo "$COLOUR $LD_PRELOAD $PYTHONHOME $(pwd) $(id -u)" >&2; exit 5'],
    "WorkingDir": "/data",
    "User": "1234",
    "Env": ["PATH=/bin", "COLOUR=blue", "LD_PRELOAD=", "PYTHONHOME=/usr", "LD_DEBUG=help", "GLIBC_TUNABLES=x"],
}


def busybox() -> oci.Image:
    entries = [Directory("bin"), Directory("data"), Directory("tmp", 0o1777), Link("bin/sh", "busybox")]
    entries += [Link(f"bin/{name}", "busybox") for name in ("id", "pwd", "echo")]
    layer = layer_of([*entries, File("bin/busybox", BUSYBOX.read_bytes(), 0o755)])
    return assemble(json.loads(config_of(layer.diff_id, **OWN)), (layer,))


MACHINE = """
import os, sys, time
from pathlib import Path
os.umask(int(sys.argv[1], 8))
time.tzset()
from faassupervisor.contract import Spec
from scar.package.agent import agent_layer
from scar.package.derive import derive
from scar.package.registry import Registry
from scar.package.registry.push import push
from scar.package.source import open_image
cache, source, host, repository = Path(sys.argv[2]), *sys.argv[3:]
base = open_image(source, None, architecture="x86_64" if os.uname().machine == "x86_64" else "arm64", cache=cache)
image = derive(base, agent_layer(cache=cache), spec=Spec("f", environment={"B": "2", "A": "1"}), script=b"#!/bin/sh\\nexit 3\\n")
print(push(image, Registry(host), repository).digest)
"""


def test_two_machines_that_share_nothing_make_the_same_image(
    open_registry: RunningRegistry, other_registry: RunningRegistry, tmp_path: Path
) -> None:
    push(busybox(), Registry(open_registry.host), "machines/base", tag="1")
    settings = [
        {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
        {"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1"},
    ]
    running = []
    for number, (umask, registry) in enumerate((("022", other_registry), ("077", open_registry))):
        home = tmp_path / str(number)
        home.mkdir()
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'faas-supervisor'}", "HOME": str(home)}
        argv = [sys.executable, "-c", MACHINE, umask, str(home / "cache"), f"{open_registry.host}/machines/base:1"]
        argv += [registry.host, f"machines/fn{number}"]
        running.append(
            subprocess.Popen(
                argv,
                env=environ | settings[number],
                cwd=home,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [process.communicate(timeout=120) for process in running]
    digests = [out.strip() for out, _ in told]
    assert digests[0].startswith("sha256:"), told
    assert digests[0] == digests[1]


def test_a_changed_script_moves_a_few_kilobytes(
    agent: AgentLayer, open_registry: RunningRegistry, other_registry: RunningRegistry, tmp_path: Path
) -> None:
    push(busybox(), Registry(other_registry.host), "script/base", tag="1")
    with Wire(other_registry.host) as source, Wire(open_registry.host) as destination:

        def deploy(script: bytes) -> int:
            """Bytes that went over the wires in both directions."""
            before = source.up_bytes + source.down_bytes + destination.up_bytes + destination.down_bytes
            name = f"{source.host}/script/base:1"
            base = open_image(name, None, architecture=agent.architecture, cache=tmp_path, keychain=lambda host: None)
            push(derive(base, agent, spec=contract.Spec("f"), script=script), Registry(destination.host), "script/fn")
            return source.up_bytes + source.down_bytes + destination.up_bytes + destination.down_bytes - before

        first, second, again = (
            deploy(b"#!/bin/sh\nexit 1\n"),
            deploy(b"#!/bin/sh\nexit 2\n"),
            deploy(b"#!/bin/sh\nexit 2\n"),
        )
    assert first > 5_000_000
    assert second < 20_000
    assert again < second


def test_a_layer_that_the_image_has_twice_is_stored_once_and_found_twice(
    agent: AgentLayer, open_registry: RunningRegistry, tmp_path: Path
) -> None:
    layer = layer_of([File("twice", os.urandom(1000))])
    base = assemble(json.loads(config_of(layer.diff_id, layer.diff_id)), (layer, layer))
    image = derive(base, agent, spec=contract.Spec("f"), script=None)
    push(image, Registry(open_registry.host), "twice", tag="1")
    name = f"{open_registry.host}/twice:1"
    back = open_image(name, None, architecture=agent.architecture, cache=tmp_path, keychain=lambda host: None)
    assert [layer.diff_id for layer in back.layers] == [layer.diff_id for layer in image.layers]
    assert back.digest == image.digest


def test_a_variant_of_the_architecture_is_kept(agent: AgentLayer) -> None:
    layer = layer_of([Directory("a")])
    base = assemble({**json.loads(config_of(layer.diff_id)), "variant": "v8"}, (layer,))
    assert read_config(derive(base, agent, spec=contract.Spec("f"), script=None))["variant"] == "v8"


def test_what_would_change_the_agents_own_loader_and_python_is_kept_from_it_only(agent: AgentLayer) -> None:
    image = derive(busybox(), agent, spec=contract.Spec("f"), script=None)
    assert read_config(image)["config"]["Env"] == ["PATH=/bin", "COLOUR=blue"]


@pytest.mark.skipif(
    shutil.which("podman") is None or os.geteuid() != 0,
    reason="podman is not set up for this user; the gate installs it and runs as root",
)
@pytest.mark.parametrize(
    ("script", "code", "said"),
    [(None, 5, "blue  /usr /data 1234"), (b"#!/bin/sh\necho script $COLOUR $(pwd) >&2\nexit 3\n", 3, "script blue")],
)
def test_podman_pulls_what_was_pushed_and_runs_it(
    agent: AgentLayer, token_registry: RunningRegistry, script: bytes | None, code: int, said: str
) -> None:
    image = derive(busybox(), agent, spec=contract.Spec("f"), script=script)
    login = Credentials(USER, PASSWORD)
    repository = f"run-{uuid4().hex[:8]}"
    digest = push(image, Registry(token_registry.host, login), repository).digest
    name = f"{token_registry.host}/{repository}@{digest}"
    pull = ["podman", "pull", "-q", "--tls-verify=false", f"--creds={USER}:{PASSWORD}", name]
    subprocess.run(pull, check=True, capture_output=True, timeout=120)
    try:
        run = ["podman", "run", "--rm", "-i", "--network=none", "--read-only", name, "--event", "-"]
        done = subprocess.run(run, input=b'{"hello": 1}', capture_output=True, timeout=120, check=False)
    finally:
        subprocess.run(["podman", "rmi", "-f", name], check=False, capture_output=True)
    assert done.returncode == code, done.stderr
    answer = json.loads(done.stdout)
    assert said in done.stderr.decode() + json.dumps(answer) + decoded(answer)


def decoded(answer: dict[str, object]) -> str:
    return "".join(base64.b64decode(str(answer[key])).decode() for key in ("body",) if answer.get("isBase64Encoded"))


def test_a_digest_is_that_of_the_manifest_that_was_pushed(agent: AgentLayer, open_registry: RunningRegistry) -> None:
    image = derive(busybox(), agent, spec=contract.Spec("f"), script=None)
    digest = push(image, Registry(open_registry.host), "named").digest
    stored = Registry(open_registry.host).manifest("named", digest)
    assert digest == digest_of(stored.content) == image.digest
    assert stored.media_type == oci.DOCKER_MANIFEST
