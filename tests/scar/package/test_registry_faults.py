"""What goes wrong on the way to a real registry: cut wires, tokens that run out, full disks, a push killed in the middle."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scar.errors import DeniedError, ServiceError
from scar.package import oci
from scar.package.agent import host_architecture
from scar.package.derive import assemble
from scar.package.layer import File, layer_of
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials
from scar.package.registry.push import push
from scar.package.source import open_image
from tests.scar.package.images import bytes_of, config_of
from tests.support.registries import LEEWAY_S, PASSWORD, USER, RunningRegistry, TokenServer
from tests.support.wires import Wire

MIB = 1 << 20
SLACK = MIB  # requests, and what lay in the sockets' buffers when a wire was cut
ROOT = Path(__file__).parents[3]


def noise(*mib: int) -> oci.Image:
    """An image of layers of so many MiB, of bytes that nobody has seen before."""
    layers = tuple(layer_of([File("noise", os.urandom(size * MIB))]) for size in mib)
    return assemble(json.loads(config_of(*(layer.diff_id for layer in layers))), layers)


def pulled(name: str, tmp_path: Path) -> oci.Image:
    return open_image(name, None, architecture=host_architecture(), cache=tmp_path, keychain=lambda host: None)


def at_once(host: str, credentials: Credentials | None = None) -> Registry:
    return Registry(host, credentials, sleep=lambda seconds: time.sleep(min(seconds, 0.2)))


def test_a_download_that_was_cut_goes_on_where_it_stopped(
    open_registry: RunningRegistry, other_registry: RunningRegistry, tmp_path: Path
) -> None:
    image = noise(8)
    push(image, Registry(open_registry.host), "cut/down", tag="1")
    with Wire(open_registry.host) as wire:
        base = pulled(f"{wire.host}/cut/down:1", tmp_path)
        wire.cut_down = wire.down_bytes + 5 * MIB
        result = push(base, at_once(other_registry.host), "cut/down", tag="1")
        assert wire.cut_down is None
        assert wire.down_bytes < 8 * MIB + SLACK
    assert result.bytes_sent > 8 * MIB
    back = pulled(f"{other_registry.host}/cut/down:1", tmp_path)
    assert bytes_of(back.layers[0]) == bytes_of(image.layers[0])


def test_an_upload_that_was_cut_is_sent_again_to_a_registry_that_has_forgotten_it(
    open_registry: RunningRegistry, tmp_path: Path
) -> None:
    """docker-registry 2 gives up an upload whose state is not the last that it told; nothing but that blob goes again."""
    image = noise(6, 3)
    with Wire(open_registry.host) as wire:
        wire.cut_up = 5 * MIB
        push(image, at_once(wire.host), "cut/up", tag="1")
        assert wire.cut_up is None
        assert wire.up_bytes < 15 * MIB + SLACK
    back = pulled(f"{open_registry.host}/cut/up:1", tmp_path)
    assert [bytes_of(layer) for layer in back.layers] == [bytes_of(layer) for layer in image.layers]


def test_both_ends_may_be_cut_again_and_again(
    open_registry: RunningRegistry, other_registry: RunningRegistry, tmp_path: Path
) -> None:
    image = noise(9, 6)
    push(image, Registry(open_registry.host), "cut/both", tag="1")
    with Wire(open_registry.host) as source, Wire(other_registry.host) as destination:
        base = pulled(f"{source.host}/cut/both:1", tmp_path)
        source.cut_down, destination.cut_up = source.down_bytes + 4 * MIB, 6 * MIB
        push(base, at_once(destination.host), "cut/both", tag="1")
        assert (source.cut_down, destination.cut_up) == (None, None)
    back = pulled(f"{other_registry.host}/cut/both:1", tmp_path)
    assert [bytes_of(layer) for layer in back.layers] == [bytes_of(layer) for layer in image.layers]


PUSH = """
import json, os, sys
from scar.package.registry import Registry
from scar.package.registry.push import push
from tests.scar.package.test_registry_faults import rebuilt
push(rebuilt(sys.argv[1]), Registry(sys.argv[2]), "killed", tag="1")
"""


def rebuilt(folder: str) -> oci.Image:
    layers = tuple(layer_of([File("noise", path.read_bytes())]) for path in sorted(Path(folder).iterdir()))
    return assemble(json.loads(config_of(*(layer.diff_id for layer in layers))), layers)


def test_a_push_that_was_killed_is_finished_by_the_same_command_which_sends_what_is_missing(
    open_registry: RunningRegistry, tmp_path: Path
) -> None:
    for n, mib in enumerate((1, 1, 8)):
        (tmp_path / str(n)).write_bytes(os.urandom(mib * MIB))
    image = rebuilt(str(tmp_path))
    with Wire(open_registry.host, up_bytes_per_s=8 * MIB) as wire:
        killed = subprocess.Popen([sys.executable, "-c", PUSH, str(tmp_path), wire.host], cwd=ROOT)
        deadline = time.monotonic() + 30
        while wire.up_bytes < 5 * MIB and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait(10) == -signal.SIGKILL
    registry = Registry(open_registry.host)
    stored = [registry.has_blob("killed", layer.blob) for layer in image.layers]
    assert stored == [True, True, False]  # what is there is whole, the half is not there under its digest
    missing = image.layers[2].blob.descriptor.size
    again = push(image, registry, "killed", tag="1")
    assert missing < again.bytes_sent < missing + SLACK
    assert bytes_of(pulled(f"{open_registry.host}/killed:1", tmp_path).layers[2]) == bytes_of(image.layers[2])
    for blob in open_registry.data.glob("docker/registry/v2/blobs/sha256/*/*/data"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.parent.name


def test_a_token_that_runs_out_in_the_middle_of_a_push_is_replaced(
    token_registry: RunningRegistry, tokens: TokenServer
) -> None:
    image = noise(1, 1, 1, 1, 1, 1)
    tokens.lifetime_s, before = 1.5, tokens.given
    try:
        with Wire(token_registry.host, up_bytes_per_s=0.8 * MIB) as wire:
            result = push(image, at_once(wire.host, Credentials(USER, PASSWORD)), "expiring", tag="1")
    finally:
        tokens.lifetime_s = 300
    assert result.bytes_sent > 6 * MIB
    assert tokens.given - before >= 2


def test_tokens_that_never_hold_are_not_asked_for_for_ever(
    token_registry: RunningRegistry, tokens: TokenServer
) -> None:
    tokens.lifetime_s, before = -2 * LEEWAY_S, tokens.given
    try:
        with pytest.raises(DeniedError, match="401"):
            push(noise(1), at_once(token_registry.host, Credentials(USER, PASSWORD)), "expired", tag="1")
    finally:
        tokens.lifetime_s = 300
    assert tokens.given - before < 10


def test_a_refresh_token_opens_a_registry(token_registry: RunningRegistry, tokens: TokenServer) -> None:
    assert push(noise(1), Registry(token_registry.host, Credentials(None, tokens.refresh_token)), "refreshed", tag="1")
    with pytest.raises(DeniedError, match="token server answered 401"):
        push(noise(1), Registry(token_registry.host, Credentials(None, "another")), "refreshed", tag="2")


# A disk of four MiB, in a mount namespace of its own, so that an ordinary user can have one too.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=4m none "$1" && shift && exec "$@"
"""


def on_a_small_disk(folder: Path, *argv: str) -> list[str]:
    folder.mkdir()
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh", str(folder), *argv]


def test_a_registry_whose_disk_is_full_is_told_as_such_and_not_tried_again(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from scar.package.registry import Registry
from scar.package.registry.push import push
from tests.scar.package.test_registry_faults import noise
from tests.support.registries import start_registry
folder, disk = Path(sys.argv[1]), Path(sys.argv[2])
registry = start_registry(folder, data=disk)
pauses = []
try:
    push(noise(8), Registry(registry.host, sleep=pauses.append), "full", tag="1")
except Exception as error:
    print(type(error).__name__, error, pauses)
finally:
    registry.stop()
"""
    argv = on_a_small_disk(tmp_path / "disk", sys.executable, "-c", program, str(tmp_path), str(tmp_path / "disk"))
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("ServiceError"), done.stderr
    assert "no space left on device" in done.stdout
    assert "The registry's disk is full" in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_a_cache_whose_disk_is_full_is_told_as_such_and_holds_no_half_layer(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from scar.package.compress import compressed_layer
from scar.package.layer import memory_blob
from tests.scar.package.images import digest_of
disk, content = Path(sys.argv[1]), os.urandom(8 << 20)
try:
    compressed_layer(memory_blob(content, ""), digest_of(content), cache=disk, tell=lambda done, total, what: None)
except Exception as error:
    print(type(error).__name__, error)
print(sorted(path.name for path in disk.rglob("*") if path.is_file()))
small = content[:1 << 20]
print(compressed_layer(memory_blob(small, ""), digest_of(small), cache=disk, tell=lambda *_: None).diff_id == digest_of(small))
"""
    argv = on_a_small_disk(tmp_path / "disk", sys.executable, "-c", program, str(tmp_path / "disk"))
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    first, *_, left, small = done.stdout.splitlines()
    assert first.startswith("ScarError"), done.stderr
    assert "No space left on device" in first
    assert "layer.tar.gz" not in left
    assert small == "True"


def test_nobody_learns_a_secret_from_what_goes_wrong(token_registry: RunningRegistry, faulty_wire: Wire) -> None:
    secret = "hush-hush-hush"
    for credentials in (Credentials("bob", secret), Credentials(None, secret)):
        for host in (token_registry.host, faulty_wire.host):
            with pytest.raises((DeniedError, ServiceError)) as raised:
                push(noise(1), at_once(host, credentials), "secret", tag="1")
            chain: BaseException | None = raised.value
            while chain is not None:
                assert secret not in f"{chain} {chain!r}"
                assert credentials.basic.removeprefix("Basic ") not in f"{chain} {chain!r}"
                chain = chain.__cause__ or chain.__context__


@pytest.fixture
def faulty_wire(token_registry: RunningRegistry) -> Wire:
    """One that ends every connection."""
    wire = Wire("127.0.0.1:1")
    wire.__exit__()
    return wire
