"""How a zip function gets its image, keeps it, and gets it again when a run has touched it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faassupervisor import workspace
from faassupervisor.aws import Aws
from faassupervisor.deadline import Deadline
from faassupervisor.errors import ScriptTimedOutError, StageInError
from faassupervisor.layers.unpack import Unpacking, UnpackLimits, relative_link
from faassupervisor.log import Log
from faassupervisor.roots.inside import Inside
from faassupervisor.roots.root import Root, no_room
from faassupervisor.storage import Stores
from tests.supervisor import images
from tests.supervisor.conftest import CREDENTIALS, PACKAGE
from tests.supervisor.images import BlobServer, Tree
from tests.supervisor.zip_lab import direct, fakechroot, output_of, registry, zip_lab  # noqa: F401  # fixtures

MIB = 1 << 20
LOWER = Tree().put("etc/a", "lower").put("etc/gone", "x").put("bin/tool", "x" * 300_000, 0o755).layer()
UPPER = Tree().put("etc/a", "upper").put("etc/.wh.gone").link("here", "/etc/a").put("big", os.urandom(3 * MIB)).layer()
LAYERS = (LOWER, UPPER)
BLOBS = {images.digest(layer): layer for layer in LAYERS}


class Brought:
    """A root in a folder of its own, and what it has logged."""

    def __init__(
        self, source: str, temporary: Path, environment: dict[str, str] | None = None, **changes: object
    ) -> None:
        self.lines: list[bytes] = []
        self.temporary = temporary
        self.root = Root(images.root(source, LAYERS, **changes), temporary, Stores(Aws(environment or {})))

    def ready(self, time_s: float = 30) -> Inside:
        return self.root.ready(Deadline(time_s, 0), Log(self.lines.append, level="DEBUG"))

    @property
    def log(self) -> str:
        return b"".join(self.lines).decode()


def assert_whole(inside: Inside) -> None:
    assert Path(inside.root, "etc/a").read_text() == "upper"
    assert not Path(inside.root, "etc/gone").exists()
    assert Path(inside.root, "here").read_text() == "upper"
    assert Path(inside.root, "big").stat().st_size == 3 * MIB


def open_all(folder: Path) -> None:
    for inner, names, _ in os.walk(folder):
        Path(inner).chmod(0o700)
        for name in names:
            if not Path(inner, name).is_symlink():
                Path(inner, name).chmod(0o700)


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    open_all(tmp_path)


@pytest.fixture
def blobs() -> Iterator[BlobServer]:
    with BlobServer(dict(BLOBS)) as server:
        yield server


# -- where it comes from


def test_layers_come_from_s3_with_the_functions_role(bucket, temporary):
    for layer in LAYERS:
        bucket.put(f"some/where/{images.digest(layer).removeprefix('sha256:')}", layer)
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": bucket.endpoint}
    brought = Brought(f"s3://{bucket.name}/some/where", temporary, environment)
    assert_whole(brought.ready())
    assert '"fact": "unpacked the image"' in brought.log


@pytest.mark.parametrize("with_token", [False, True])
def test_layers_come_from_a_registry_that_asks_for_nothing_or_an_anonymous_token(blobs, temporary, with_token):
    blobs.with_token = with_token
    assert_whole(Brought(blobs.source, temporary).ready())
    assert blobs.asked("/token") == int(with_token)


def test_a_registrys_redirect_is_followed_and_its_token_goes_nowhere_else(blobs, temporary):
    with BlobServer(dict(BLOBS)) as store:
        blobs.with_token, blobs.redirect_to = True, f"{store.endpoint}/bucket"
        assert_whole(Brought(blobs.source, temporary).ready())
        assert len(store.seen) == 2
        assert all("authorization" not in headers for _, headers in store.seen)


@pytest.mark.parametrize(
    "source",
    [
        "http://registry.example/v2/some/image",
        "http://10.0.0.1/v2/some/image",
        "http://127.0.0.1.registry.example/v2/a",
    ],
)
def test_plain_http_stays_on_this_machine(temporary, source):
    with pytest.raises(StageInError, match=r"it takes https"):
        Brought(source, temporary).ready()


def test_a_redirect_to_plain_http_elsewhere_is_not_followed(blobs, temporary):
    blobs.redirect_to = "http://registry.example/bucket"
    with pytest.raises(StageInError, match=r"http://registry\.example is not asked"):
        Brought(blobs.source, temporary).ready()


def test_an_unknown_source_is_an_init_error(zip_lab):  # noqa: F811
    agent = zip_lab.agent("true", root=images.root("ftp://x", LAYERS))
    message = agent.api.init_errors.get(timeout=20).document["errorMessage"]
    assert "source 'ftp://x': this agent knows s3://, https://" in message


# -- what can happen on the way


def once(fault: Callable[..., None]) -> Callable[..., bool]:
    """Answer the first request for a blob in the server's stead."""
    left = [fault]

    def answer(handler, _):
        if "/blobs/" not in handler.path or not left:
            return False
        left.pop()(handler)
        return True

    return answer


def test_a_connection_that_breaks_is_taken_up_where_it_broke(blobs, temporary):
    cuts = [0, 1, 400_000, 300_000]

    def cut(handler, _):
        if not cuts or not handler.path.endswith(images.digest(UPPER)):
            return False
        handler.blob(UPPER, cut_after=cuts.pop(0))
        return True

    blobs.fault = cut
    assert_whole(Brought(blobs.source, temporary).ready())
    ranges = [headers.get("range") for path, headers in blobs.seen if path.endswith(images.digest(UPPER))]
    assert ranges == [None, None, None, "bytes=393216-", "bytes=655360-"]


def test_a_server_that_sends_everything_again_is_understood(blobs, temporary):
    def whole(handler, number):
        if "range" in {name.lower() for name in handler.headers}:
            handler.send(200, UPPER)
        elif handler.path.endswith(images.digest(UPPER)):
            handler.blob(UPPER, cut_after=700_000)
        else:
            return False
        return True

    blobs.fault = whole
    assert_whole(Brought(blobs.source, temporary).ready())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(blobs, temporary, status):
    blobs.fault = once(lambda handler: handler.send(status, b""))
    assert_whole(Brought(blobs.source, temporary).ready())


def wrong(layer: bytes) -> bytes:
    return layer[:-5] + bytes([layer[-5] ^ 1]) + layer[-4:]


FAULTS = {
    "absent": (404, b"", "does not have it"),
    "forbidden": (403, b"", "refuses access without credentials"),
    "always busy": (503, b"", r"did not arrive whole \(0 of [0-9]+ bytes, 5 requests"),
    "same length, another content": (200, os.urandom(len(LOWER)), "cannot be unpacked"),
    "its end damaged": (200, wrong(LOWER), "cannot be unpacked|its digest is"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_had_whole_is_a_failure_that_leaves_nothing(blobs, temporary, case):
    status, body, reason = FAULTS[case]

    def fault(handler, _):
        handler.send(status, body)
        return True

    blobs.fault = fault
    brought = Brought(blobs.source, temporary)
    with pytest.raises(StageInError, match=reason) as caught:
        brought.ready()
    assert "layer" in caught.value.message
    assert list(temporary.iterdir()) == []
    blobs.fault = None
    assert_whole(brought.ready())


def test_a_layer_of_the_right_bytes_and_another_digest_is_refused(blobs, temporary):
    padded = LOWER + b"\0" * 100  # unpacks like the one that was meant
    blobs.blobs[images.digest(LOWER)] = padded
    brought = Brought(blobs.source, temporary)
    layers = brought.root._image.layers
    assert layers[0].size == len(LOWER)
    assert_whole(brought.ready())  # what comes beyond the size that was told is not even read


def test_a_registry_that_wants_credentials_is_said_so(blobs, temporary):
    def fault(handler, _):
        handler.send(401, b"", {"WWW-Authenticate": 'Basic realm="private"'})
        return True

    blobs.fault = fault
    with pytest.raises(StageInError, match="reads public images only"):
        Brought(blobs.source, temporary).ready()


def test_an_object_that_is_gone_is_named(bucket, temporary):
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": bucket.endpoint}
    with pytest.raises(StageInError, match=rf"s3://{bucket.name}/p/[0-9a-f]{{64}} cannot be read: it does not exist"):
        Brought(f"s3://{bucket.name}/p", temporary, environment).ready()


def test_a_server_that_falls_silent_does_not_keep_the_agent(blobs, temporary):
    released = threading.Event()

    def silent(handler, _):
        handler.blob(UPPER if handler.path.endswith(images.digest(UPPER)) else LOWER, cut_after=1000)
        released.wait(20)
        return True

    blobs.fault = silent
    brought = Brought(blobs.source, temporary)
    started = time.monotonic()
    try:
        with pytest.raises(ScriptTimedOutError, match="the image was still being fetched") as caught:
            brought.ready(time_s=1)
    finally:
        released.set()
    assert time.monotonic() - started < 2
    assert caught.value.exit_code == 124
    assert list(temporary.iterdir()) == []


def test_room_is_asked_for_before_anything_is_fetched(blobs, temporary):
    with pytest.raises(StageInError, match="`ephemeral_storage`"):
        Brought(blobs.source, temporary, unpacked_bytes=1 << 60).ready()
    assert blobs.seen == []


def test_who_has_no_room_is_told_how_much_to_ask_for():
    told = no_room(700 * MIB, free=500 * MIB, used=12 * MIB)
    assert "700 MiB, and 500 MiB are free: set the function's `ephemeral_storage` to 832 or more" in told
    assert "deploy the function with `runtime: image`" in no_room(10240 * MIB, free=0, used=0)


def test_memory_does_not_grow_with_the_image(zip_lab, registry):  # noqa: F811
    large = Tree().put("large", bytes(100 * MIB)).layer()
    registry.blobs[images.digest(large)] = large
    zip_lab.image = images.root(registry.source, [images.shell(), large])
    agent = zip_lab.agent("stat -c %s /large")
    assert output_of(agent.invoke({})) == f"{100 * MIB}\n"
    peak = next(line for line in Path(f"/proc/{agent.process.pid}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 90 * 1024


def test_a_file_that_the_disk_takes_only_a_part_of_is_no_file(tmp_path):
    """A limit on the size of files stands for a disk that becomes full: write(2) takes what fits and succeeds."""
    layer = tmp_path / "layer"
    layer.write_bytes(Tree().put("big", bytes(2 * MIB)).layer())
    program = (
        "import resource, sys; from pathlib import Path; from faassupervisor.layers.unpack import UnpackLimits, unpack\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({MIB * 3 // 2}, {MIB * 3 // 2}))\n"
        "unpack([Path(sys.argv[1])], Path(sys.argv[2]), UnpackLimits())"
    )
    (tmp_path / "root").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, layer, tmp_path / "root"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "LayerError" in done.stderr
    assert "File too large" in done.stderr


# -- kept, and never trusted


def test_it_is_unpacked_before_the_first_event_and_once(zip_lab, registry):  # noqa: F811
    layer = images.digest(images.shell())
    before = registry.asked(layer)
    agent = zip_lab.agent(
        'ls "$TMP_INPUT_DIR/../.."; echo x > "$TMP_INPUT_DIR/../../left"; (echo x > /usr/left); cat /usr/left'
    )
    agent.api.wait_until_asked()
    root = zip_lab.root_of(agent)
    for _ in range(2):
        listed = agent.invoke({}).document["runs"][0]["output"].splitlines()
        assert [name.rpartition("-")[0] for name in listed[:2]] == ["scar-root", "scar-run"]
        assert "Permission denied" in listed[2]
        assert "No such file" in listed[3]
    assert zip_lab.root_of(agent) == root
    assert registry.asked(layer) - before == 1
    assert [fact["fact"] for fact in agent.facts()].count("unpacked the image") == 1


HOSTILE = {
    "a file planted": "cd $R/usr; chmod u+w bin; echo '#!/bin/sh' > bin/planted; chmod 0755 bin/planted; chmod 0555 bin",
    "content changed, times set back": "cd $R/etc; cp -p os-release $O/same; chmod u+w os-release; echo NAME=evils > os-release; "
    "touch -r $O/same os-release; chmod u-w os-release",
    "written through another name": "ln $R/etc/os-release $O/x; chmod u+w $O/x; echo NAME=evils > $O/x; chmod u-w $O/x; rm $O/x",
    "a mode": "chmod 0500 $R/usr",
    "another tree in its place": "cp -a $R $R.new; mv $R $R.old; cd $R.new/etc; chmod u+w os-release; echo NAME=evil > os-release; mv $R.new $R",
    "moved away and back": "mv $R $R.x; mv $R.x $R",
    "gone": "chmod -R u+w $R; rm -rf $R",
    "shut": "chmod 0 $R",
    "buried": "chmod u+w $R/work; cd $R/work; i=0; while [ $i -lt 200 ]; do mkdir d; cd d; i=$((i+1)); done; chmod 0 .",
    "a link in place of a folder": "chmod u+w $R; mkdir $O/etc; mv $R/etc $R/etc2; ln -s $O/etc $R/etc",
}


def test_whatever_a_run_does_to_the_images_files_the_next_one_finds_them_as_they_were(zip_lab, registry):  # noqa: F811
    zip_lab.image = images.root(registry.source, [images.shell()])
    agent = zip_lab.agent()
    for number, (case, attack) in enumerate(HOSTILE.items(), 1):
        answer = agent.invoke(direct(f"R=$FAKECHROOT_BASE; O=$TMP_OUTPUT_DIR; {attack}\ntrue"))
        assert answer.error_type is None or case in {"gone", "shut"}, (case, answer.body)
        seen = "ls / /usr/bin/planted; cat /etc/os-release; stat -c '%a' /usr /etc/os-release; ls -a /work"
        output = output_of(agent.invoke(direct(seen))).splitlines()
        names = ["bin", "dev", "etc", "lib", "lib64", "proc", "sys", "tmp", "usr", "work"]
        assert [line for line in output if "No such" not in line and line not in {"", "/:"}] == [
            *names, "NAME=guest", "555", "444", ".", "..", ".keep",
        ], case  # fmt: skip
        facts = [fact["fact"] for fact in agent.facts()]
        assert facts.count("unpacked the image") == number + 1, case
        assert facts.count("an earlier run changed the files of the image: they are unpacked again") == number, case
    assert len(list(agent.temporary.iterdir())) == 1


def test_a_run_that_touches_nothing_costs_no_new_image(zip_lab):  # noqa: F811
    agent = zip_lab.agent("cat /etc/os-release /usr/bin/* > /dev/null; ls -laR /usr > /dev/null; (: > /usr/x); true")
    for _ in range(3):
        assert agent.invoke({}).error_type is None
    assert [fact["fact"] for fact in agent.facts()].count("unpacked the image") == 1


def test_an_agent_that_was_killed_in_the_middle_is_followed_by_one_that_begins_anew(zip_lab, registry):  # noqa: F811
    hold, held = threading.Event(), threading.Event()
    layer = images.languages()

    def stall(handler, _):
        if not handler.path.endswith(images.digest(layer)) or hold.is_set():
            return False
        handler.blob(layer, cut_after=len(layer) // 2)
        held.set()
        hold.wait(20)
        return True

    registry.fault = stall
    try:
        zip_lab.image = images.root(registry.source, [images.shell(), layer])
        agent = zip_lab.agent("true")
        assert held.wait(20)
        os.kill(agent.process.pid, signal.SIGKILL)
        agent.process.wait()
        assert len(list(zip_lab.temporary.iterdir())) == 1
        hold.set()
        following = zip_lab.agent("cat /etc/os-release")
        assert output_of(following.invoke({})) == "NAME=guest\n"
        assert len(list(zip_lab.temporary.iterdir())) == 1
    finally:
        hold.set()
        registry.fault = None


def test_what_fails_before_the_first_event_is_told_to_its_caller_and_tried_again(zip_lab, registry):  # noqa: F811
    registry.fault = lambda handler, _: handler.send(403, b"") is None
    try:
        agent = zip_lab.agent("echo run")
        answer = agent.invoke({})
        assert answer.error_type == "StageInFailed"
        assert "refuses access without credentials" in answer.document["errorMessage"]
        agent.says("the image is not unpacked yet")
    finally:
        registry.fault = None
    assert output_of(agent.invoke({})) == "run\n"


def test_a_time_that_is_over_while_the_image_comes_fails_this_event_only(zip_lab, registry):  # noqa: F811
    busy = [True]
    registry.fault = lambda handler, _: busy[0] and handler.send(503, b"") is None
    try:
        agent = zip_lab.agent("echo run", root=images.root(registry.source, [images.shell()], unpacked_bytes=700 * MIB))
        agent.api.wait_until_asked()
        assert "unpacked" not in agent.log  # too large to try before the first event
        answer = agent.invoke({}, timeout_s=2)
        assert (answer.error_type, answer.document["exit_code"]) == ("ScriptTimedOut", 124)
        assert "the image was still being fetched" in answer.document["errorMessage"]
        busy[0] = False
        assert output_of(agent.invoke({})) == "run\n"
    finally:
        registry.fault = None


def test_one_agents_image_is_not_anothers_to_remove(blobs, temporary):
    brought = Brought(blobs.source, temporary)
    inside = brought.ready()
    assert workspace.sweep(temporary) == 0
    assert_whole(inside)
    brought.root._forget()
    left = workspace.new_root(temporary)
    assert workspace.sweep(temporary) == 1
    assert not left.exists()


# -- links, without the root being "/"

LINKS = [
    ("/etc/x", 0, "etc/x"),
    ("/etc/x", 2, "../../etc/x"),
    ("//etc/./x/", 1, "../etc/x"),
    ("/", 2, "../.."),
    ("/", 0, "."),
    ("/../../x", 1, "../x"),
    ("x", 3, "x"),
    ("../x", 1, "../x"),
    ("../../../x", 2, "../../x"),
    ("..", 0, "."),
    ("./../x/../y", 1, "./../x/../y"),
    ("/a/../b", 1, "../a/../b"),
]


@pytest.mark.parametrize(("link", "depth", "expected"), LINKS)
def test_a_link_is_written_so_that_it_leads_there_from_where_it_is(link, depth, expected):
    assert relative_link(link, depth) == expected


def test_relative_links_lead_where_the_images_links_lead(blobs, temporary):
    """Through links to folders, in nested folders, over a later layer; and links that wind out of the root are straightened."""
    lower = (
        Tree()
        .put("usr/lib/file", "found")
        .link("lib", "/usr/lib")
        .link("usr/bin/deep", "/lib/file")
        .put("x", "root's x")
    )
    lower.link("lib/in-lib", "/x").link("usr/lib64", "lib").link("usr/up", "../../../x").link("out", "usr/../../../x")
    lower.link("alternatives", "/nowhere").link("dangling", "/no/thing").link("wind", "/lib/../../x").link("d", ".")
    upper = Tree().link("alternatives", "/usr/lib/file").link("d2", "d/d/d/../../../x")
    layers = (lower.layer(), upper.layer())
    blobs.blobs.update({images.digest(layer): layer for layer in layers})
    root = Root(images.root(blobs.source, layers), temporary, Stores(Aws({})))
    inside = Path(root.ready(Deadline(30, 0), Log(lambda _: None)).root)
    for name in ("usr/bin/deep", "alternatives", "usr/lib64/file"):
        assert (inside / name).read_text() == "found", name
    for name in ("usr/lib/in-lib", "usr/up", "out", "wind", "d2"):
        assert (inside / name).read_text() == "root's x", name
    assert not (inside / "dangling").exists()
    for folder, names, files in os.walk(inside):
        for name in (*names, *files):
            where = Path(folder, name)
            if where.is_symlink() and where.name not in {"dev", "proc", "sys", "tmp"}:
                assert os.path.realpath(where).startswith(str(inside)), where


def test_without_the_option_links_stay_as_they_are(tmp_path):
    import gzip
    import io

    Unpacking(tmp_path, UnpackLimits()).apply("l", io.BytesIO(gzip.decompress(Tree().link("a/b", "/x/../y").layer())))
    assert (tmp_path / "a/b").readlink() == Path("/x/../y")


def test_a_path_means_inside_what_chroot_would_make_of_it(tmp_path):
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/tool").write_text("")
    for name, target in [
        ("bin", "/usr/bin"),
        ("usr/bin/t", "../../../../bin/tool"),
        ("loop", "/loop"),
        ("own", "/tmp/x"),
        ("tmp", "/tmp"),
    ]:
        (tmp_path / name).symlink_to(target)
    inside = Inside(str(tmp_path), ["/tmp", "/etc/hosts"])
    tool = str(tmp_path / "usr/bin/tool")
    for path in ("/bin/tool", "/bin/t", "//usr/./bin/../bin/t", "/../../bin/tool", "/bin/../bin/tool"):
        assert inside.real(path) == tool, path
    assert inside.real("/") == str(tmp_path)
    for path in ("/bin/none", "/loop", "/loop/x", "/bin/tool/x", "/no/way", "/etc/passwd"):
        assert inside.real(path) is None, path
    shared = Path("/tmp", f"x-{uuid.uuid4().hex}")
    assert inside.real(str(shared)) is None
    assert inside.place("/own") == "/tmp/x"
    assert inside.real("/tmp") == "/tmp"
    assert inside.place("/tmp/../bin") == "/tmp/../bin"  # as libfakechroot has it
