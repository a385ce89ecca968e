"""Unpacked images on disk: verified, made once, held while they are used, and never more than their bound."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_trials import AS_ROOT, ENVIRONMENT

from scar.errors import ScarError
from scar.local.rootfs import RootfsStore, bytes_for_images
from scar.local.sandbox import Bind, Engine, SandboxSpec

DIGESTS = [f"sha256:{letter * 64}" for letter in "abcdef"]
STORING = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from scar.local.rootfs import RootfsStore
held = RootfsStore(Path(sys.argv[1])).use(sys.argv[2], [Path(name) for name in sys.argv[3:]])
print(held.path, flush=True)
sys.stdin.read()
"""


def blob(folder: Path, files: dict[str, bytes], *, compress: bool = True) -> Path:
    """A layer in a file that is named by its digest, as the registry keeps it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as writer:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            writer.addfile(member, io.BytesIO(content))
    content = gzip.compress(buffer.getvalue(), 1) if compress else buffer.getvalue()
    path = folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return path


def entries(folder: Path) -> int:
    """How many; -1 where it is not there (yet, or just now removed)."""
    try:
        return len(list(folder.iterdir()))
    except FileNotFoundError:
        return -1


def storing(store: Path, digest: str, *layers: Path) -> subprocess.Popen[str]:
    """Another process that unpacks an image and holds it until its standard input ends."""
    program = STORING.format(path=sys.path)
    argv = [sys.executable, "-c", program, str(store), digest, *map(str, layers)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("compress", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("at", [0.0, 0.5, 0.999], ids=["head", "middle", "end"])
def test_a_layer_that_changed_on_disk_is_found_while_it_is_unpacked(tmp_path: Path, compress: bool, at: float) -> None:
    layer = blob(tmp_path, {"a": os.urandom(300_000), "b": b"x"}, compress=compress)
    store = RootfsStore(tmp_path / "store")
    content = bytearray(layer.read_bytes())
    content[int(len(content) * at)] ^= 1
    layer.write_bytes(content)
    with pytest.raises(ScarError, match=f"layer {layer.name} cannot be unpacked"):
        store.ensure(DIGESTS[0], [layer])
    assert store.usage() == 0
    assert not list((tmp_path / "store").glob("*.making"))


@pytest.mark.parametrize("marker", [b'{"bytes": 7, "boot": "another"}', b'{"bytes": 7}', b"", b"[]"])
def test_an_image_from_before_the_machines_last_start_is_unpacked_anew(tmp_path: Path, marker: bytes) -> None:
    """A power cut may have taken of its files what its marker says is there."""
    layer = blob(tmp_path, {"a": b"content"})
    root = RootfsStore(tmp_path / "store").ensure(DIGESTS[0], [layer])
    (root / "a").write_bytes(b"")
    assert (RootfsStore(tmp_path / "store").ensure(DIGESTS[0], [layer]) / "a").read_bytes() == b""
    (root.parent / "complete.json").write_bytes(marker)
    assert (RootfsStore(tmp_path / "store").ensure(DIGESTS[0], [layer]) / "a").read_bytes() == b"content"


def test_a_changed_byte_that_no_check_sum_of_gzip_covers_is_found_too(tmp_path: Path) -> None:
    layer = blob(tmp_path, {"a": b"content"})
    content = bytearray(layer.read_bytes())
    content[4] ^= 1  # the time of compression, in gzip's header
    layer.write_bytes(content)
    with pytest.raises(ScarError, match="its content is not what its digest says") as found:
        RootfsStore(tmp_path / "store").ensure(DIGESTS[0], [layer])
    assert "Push the image again" in str(found.value)


def test_a_layer_as_it_should_be_passes_and_one_that_was_replaced_by_another_does_not(tmp_path: Path) -> None:
    first, second = blob(tmp_path, {"a": b"1"}), blob(tmp_path, {"b": b"2" * 70_000}, compress=False)
    root = RootfsStore(tmp_path / "store").ensure(DIGESTS[0], [first, second])
    assert ((root / "a").read_bytes(), (root / "b").stat().st_size) == (b"1", 70_000)
    shutil.copy(second, first)
    with pytest.raises(ScarError, match="not what its digest says"):
        RootfsStore(tmp_path / "store").ensure(DIGESTS[1], [first])


def test_two_processes_at_once_unpack_an_image_once(tmp_path: Path) -> None:
    layer = blob(tmp_path, {f"d/{number}": bytes(1000) for number in range(500)})
    both = [storing(tmp_path / "store", DIGESTS[0], layer) for _ in range(2)]
    try:
        roots = {process.stdout.readline().strip() for process in both if process.stdout}
        assert len(roots) == 1
        root = Path(roots.pop())
        assert len(list((root / "d").iterdir())) == 500
        assert len({path.stat().st_ino for path in tmp_path.glob("store/*/complete.json")}) == 1
    finally:
        for process in both:
            process.communicate()


def test_an_unpacking_killed_at_any_moment_is_done_anew(tmp_path: Path) -> None:
    layer = blob(tmp_path, {f"d/{number}": os.urandom(4000) for number in range(1500)})
    store = tmp_path / "store"
    whole, making = store / ("a" * 64), store / f"{'a' * 64}.making/rootfs/d"
    for fewest in (0, 100, 800):
        with storing(store, DIGESTS[0], layer) as process:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and entries(making) <= fewest and not whole.exists():
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
    root = RootfsStore(store).ensure(DIGESTS[0], [layer])
    assert len(list((root / "d").iterdir())) == 1500
    assert all(path.stat().st_size == 4000 for path in (root / "d").iterdir())
    assert not list(store.glob("*.making"))


def test_what_a_killed_process_left_half_made_goes_with_the_next_pruning_but_not_what_is_being_made(
    tmp_path: Path,
) -> None:
    store, fifo = tmp_path / "store", tmp_path / "slow"
    os.mkfifo(fifo)
    layer = blob(tmp_path, {"a": b"x"})
    with storing(store, DIGESTS[0], layer, fifo) as process:
        writing = os.open(fifo, os.O_WRONLY)  # it has unpacked the first layer once it opens the second
        RootfsStore(store).prune()
        assert (store / f"{'a' * 64}.making/rootfs/a").exists()
        process.kill()
        process.wait()
        os.close(writing)
    RootfsStore(store).prune()
    assert {path.suffix for path in store.iterdir()} == {".lock"}


def test_an_image_in_use_is_never_removed_and_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    store = RootfsStore(tmp_path / "store")
    layers = [blob(tmp_path, {"a": bytes([number]) * 1000}) for number in range(3)]
    store.ensure(DIGESTS[0], [layers[0]])
    with store.use(DIGESTS[1], [layers[1]]) as held, storing(tmp_path / "store", DIGESTS[2], layers[2]) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert store.prune(max_bytes=0) == (DIGESTS[0],)
        assert (held.path / "a").read_bytes() == b"\1" * 1000
        assert store.prune(max_bytes=0) == ()
        other.kill()
        other.wait()
        assert store.prune(max_bytes=0) == (DIGESTS[2],)
    assert store.prune(max_bytes=0) == (DIGESTS[1],)
    assert store.usage() == 0


def test_a_sandbox_holds_its_image_until_it_has_ended(
    engines: Callable[[str], Engine], scratch: Path, tmp_path: Path
) -> None:
    engine = engines("root" if AS_ROOT else "user")
    store = RootfsStore(scratch / "held")
    program = Path(shutil.which("busybox") or "/bin/busybox")
    layer = blob(tmp_path, {"bin/sh": program.read_bytes()})
    held = store.use(DIGESTS[0], [layer])
    (held.path / "bin/sh").chmod(0o755)
    spec = SandboxSpec(
        held.path,
        ("/bin/sh", "-c", "echo up; sleep 60"),
        ENVIRONMENT,
        binds=(Bind(program, "/bin/sleep"),),
        held=(held.descriptor,),
    )
    sandbox = engine.start(spec)
    held.close()
    try:
        assert sandbox.output.readline() == b"up\n"
        assert store.prune(max_bytes=0) == ()
    finally:
        sandbox.kill()
        sandbox.output.close()
    assert store.prune(max_bytes=0) == (DIGESTS[0],)


def test_a_new_image_makes_the_longest_unused_go_beyond_the_bound(tmp_path: Path) -> None:
    store = RootfsStore(tmp_path / "store", max_bytes=2500)
    for number, digest in enumerate(DIGESTS[:4]):
        store.ensure(digest, [blob(tmp_path, {"a": bytes([number]) * 1000})])
    assert store.usage() == 2000
    assert {path.parent.name[0] for path in tmp_path.glob("store/*/complete.json")} == {"c", "d"}
    large = store.ensure(DIGESTS[4], [blob(tmp_path, {"a": bytes(9000)})])
    assert large.exists()
    assert store.usage() == 9000


def test_what_images_may_take_is_20_gb_or_a_quarter_of_a_small_disk(tmp_path: Path) -> None:
    found = bytes_for_images(tmp_path / "not/there/yet")
    assert found == min(20 * 10**9, shutil.disk_usage(tmp_path).total // 4)
    assert found > 0
