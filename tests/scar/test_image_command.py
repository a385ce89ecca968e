"""`scar image` as its user has it: real processes, Debian's registry on loopback, archives and layouts made here."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scar.package.agent import agent_layer, host_architecture
from scar.package.writing import parse_target
from scar.report import size
from tests.e2e.conftest import PYTHONPATH, Done, Local
from tests.scar.package.images import digest_of, tar_of
from tests.support.registries import RunningRegistry, start_basic_registry, start_registry

OURS = host_architecture()
OTHER = {"amd64": "arm64", "arm64": "amd64"}[OURS]
LAMBDAS_NAME = {"amd64": "x86_64", "arm64": "arm64"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
VERBS = ("inspect", "derive", "push", "prune")


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the agent in it, which takes seconds to make; that of the whole run, where there is one."""
    cache = Path(os.environ.get("SCAR_CACHE") or tmp_path_factory.mktemp("image-cache"))
    agent_layer(cache=cache)
    return cache


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    running = start_registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def closed_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """One that wants a user and a password, which nobody here has."""
    running = start_basic_registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@dataclass
class Desk:
    """A folder to work in, with nothing of the caller's AWS or Docker configuration."""

    folder: Path
    cache: Path

    def scar(self, *words: str, **environ: str) -> Done:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": PYTHONPATH,
            "SCAR_CACHE": str(self.cache),
            **environ,
        }
        done = subprocess.run(
            [sys.executable, "-m", "scar", "image", *words],
            capture_output=True, text=True, cwd=self.folder, env=env, timeout=60, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *words: str) -> Done:
        done = self.scar(*words)
        assert done.code == 0, done.err
        return done

    def inspect(self, *words: str) -> Any:
        """The one image of an inspection."""
        (told,) = self.must("inspect", *words, "-o", "json").json["images"]
        return told

    def define(self, *names: str, script: str | None = "#!/usr/bin/python3\nprint('hi')\n", **container: Any) -> Path:
        """A definition of one function for each name, all alike."""
        functions = []
        for name in names or ("cow",):
            body: dict[str, Any] = {"name": name, "container": container or {"image": "scratch"}}
            body |= {"architectures": [LAMBDAS_NAME[OURS]]}
            body |= {"input": [{"path": f"{name}-bucket/in"}], "output": [{"path": f"{name}-bucket/out"}]}
            if script is not None:
                (self.folder / "script.py").write_text(script)
                body["init_script"] = "script.py"
            functions.append({"lambda": body})
        path = self.folder / "function.yaml"
        path.write_text(json.dumps({"functions": {"aws": functions}}))  # JSON is YAML
        return path


@pytest.fixture
def desk(tmp_path: Path, image_cache: Path) -> Desk:
    (tmp_path / "desk").mkdir()
    return Desk(tmp_path / "desk", image_cache)


@dataclass
class Made:
    """An image made by hand, for one platform, of layers as they are given: (media type, content)."""

    layers: list[tuple[str, bytes]]
    architecture: str = OURS
    config_type: str = CONFIG
    process: dict[str, Any] = field(default_factory=dict)
    raw_config: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> bytes:
        document = {
            "architecture": self.architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/bin", "TOKEN=hunter2"], **self.process},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(plain(content)) for _, content in self.layers]},
        }
        return json.dumps(document | self.raw_config).encode()

    @property
    def manifest(self) -> bytes:
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": described(self.config, self.config_type),
                "layers": [described(content, kind) for kind, content in self.layers],
            }
        ).encode()

    @property
    def blobs(self) -> list[bytes]:
        return [self.config, *(content for _, content in self.layers)]


def plain(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def described(content: bytes, kind: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content), **more}


def packed(text: str = "hello") -> tuple[str, bytes]:
    return f"{LAYER}+gzip", gzip.compress(tar_of({"bin/hello": text.encode()}), mtime=0)


def index_of(*images: Made) -> bytes:
    entries = [
        described(image.manifest, MANIFEST, platform={"os": "linux", "architecture": image.architecture})
        for image in images
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()


def layout(folder: Path, *images: Made, index: bytes | None = None) -> Path:
    """An OCI layout of the images."""
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True)
    for content in (content for image in images for content in (image.manifest, *image.blobs)):
        (place / hashlib.sha256(content).hexdigest()).write_bytes(content)
    (folder / "index.json").write_bytes(index or index_of(*images))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def upload(host: str, repository: str, tag: str, *images: Made, index: bytes | None = None) -> str:
    """Put images into a registry with nothing but HTTP; the tag names the index, or the only image."""

    def send(method: str, url: str, content: bytes = b"", kind: str = "application/octet-stream") -> Any:
        request = urllib.request.Request(url, content, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.headers

    base = f"http://{host}/v2/{repository}"
    for image in images:
        for content in image.blobs:
            place = send("POST", f"{base}/blobs/uploads/")["Location"]
            send("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest_of(content)}", content)
        send("PUT", f"{base}/manifests/{digest_of(image.manifest) if index else tag}", image.manifest, MANIFEST)
    if index:
        send("PUT", f"{base}/manifests/{tag}", index, INDEX)
    return f"{host}/{repository}:{tag}"


# -- inspect ----------------------------------------------------------------------------------------------------


def test_an_index_is_shown_with_all_its_platforms_and_ours_marked(desk: Desk, registry: RunningRegistry) -> None:
    ours, other = Made([packed()], process={"Cmd": ["/bin/hello"]}), Made([packed("other")], architecture=OTHER)
    index = index_of(ours, other)
    name = upload(registry.host, "team/both", "1", ours, other, index=index)
    told = desk.inspect(name, "--architecture", OURS)
    assert told["index_digest"] == digest_of(index)
    assert told["digest"] == digest_of(ours.manifest)
    assert [(each["platform"], each["chosen"]) for each in told["platforms"]] == [
        (f"linux/{OURS}", True),
        (f"linux/{OTHER}", False),
    ]
    assert told["lambda"]["accepted"] is True
    shown = desk.must("inspect", name, "--architecture", OURS).out
    assert f"linux/{OURS} *, linux/{OTHER}" in shown
    assert f"digest  {digest_of(ours.manifest)}" in shown
    assert 'CMD ["/bin/hello"]' in shown
    assert "SCAR's agent" in shown
    assert "yes: takes it" in shown
    assert max(map(len, shown.splitlines())) < 80
    assert desk.inspect(name, "--architecture", LAMBDAS_NAME[OTHER])["digest"] == digest_of(other.manifest)


def test_a_document_has_everything_a_program_needs(desk: Desk) -> None:
    told = desk.inspect("scratch", "--architecture", OURS)
    assert set(told) == {
        "image", "function", "architecture", "digest", "media_type", "index_digest", "platforms", "size_bytes",
        "unpacked_bytes", "layers", "process", "runs", "lambda", "derived",
    }  # fmt: skip
    assert set(told["layers"][0]) == {"digest", "media_type", "size_bytes"}
    assert told["process"] == {
        "entrypoint": [],
        "command": ["/usr/bin/python3"],
        "user": "",
        "working_directory": "/",
        "environment": ["PATH", "PYTHONPATH", "SSL_CERT_FILE"],
    }
    assert told["lambda"] == {"accepted": True, "why_not": [], "remarks": []}


def test_a_platform_that_is_missing_is_an_answer_and_not_an_error(desk: Desk, registry: RunningRegistry) -> None:
    other = Made([packed()], architecture=OTHER)
    indexed = upload(registry.host, "team/other", "index", other, index=index_of(other))
    single = upload(registry.host, "team/other", "single", other)
    for name in (indexed, single):
        told = desk.inspect(name, "--architecture", OURS)
        assert told["lambda"]["accepted"] is False
        (why,) = told["lambda"]["why_not"]
        assert f"linux/{OTHER}" in why
        assert f"linux/{OURS}" in why
        assert "Lambda  no: " in desk.must("inspect", name, "--architecture", OURS).out


@pytest.mark.parametrize(
    ("made", "accepted", "said"),
    [
        (Made([(LAYER, tar_of({"a": b"b"}))]), True, "1 uncompressed layer will be re-compressed by SCAR"),
        (Made([(f"{LAYER}+zstd", b"?")]), True, "1 zstd layer will be re-compressed by SCAR"),
        (Made([packed(str(number)) for number in range(126)]), False, "It has 126 layers, and 125 are possible"),
        (Made([("application/vnd.strange", b"?")]), False, "'application/vnd.strange'"),
        (Made([packed()], config_type="application/vnd.chart.v1+json"), False, "It is not a container image"),
        (Made([packed()], process={"User": "app"}), True, "USER app has no effect in Lambda"),
        (Made([packed()]), True, "neither ENTRYPOINT nor CMD"),
    ],
    ids=["plain", "zstd", "layers", "strange-layer", "no-image", "user", "no-command"],
)
def test_lambdas_view_of_an_image_is_told_with_its_reason(desk: Desk, made: Made, accepted: bool, said: str) -> None:
    told = desk.inspect(str(layout(desk.folder / "layout", made)), "--architecture", OURS)["lambda"]
    assert told["accepted"] is accepted
    assert any(said in each for each in (*told["why_not"], *told["remarks"])), told


def test_an_image_of_more_than_ten_gigabytes_is_refused_by_what_its_manifest_says(desk: Desk) -> None:
    made = Made([packed()])
    manifest = json.loads(made.manifest)
    manifest["layers"] *= 11
    big = {**manifest["layers"][0], "size": 2**30}
    manifest["layers"] = [{**big, "digest": f"sha256:{number:064x}"} for number in range(11)]
    content = json.dumps(manifest).encode()
    host = RegistryOfOne(content, made.config)
    with host:
        told = desk.inspect(f"{host.host}/big:1", "--architecture", OURS)
    assert told["size_bytes"] == 11 * 2**30
    assert "11.0 GiB compressed already" in told["lambda"]["why_not"][0]


def test_an_image_of_docker_schema_1_is_told_as_such(desk: Desk) -> None:
    manifest = json.dumps({"schemaVersion": 1, "fsLayers": [], "history": []}).encode()
    host = RegistryOfOne(manifest, b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    with host:
        told = desk.inspect(f"{host.host}/old:1")
    assert "schema 1" in told["lambda"]["why_not"][0]


class RegistryOfOne:
    """A server that answers one manifest and one configuration to whoever asks for anything."""

    def __init__(self, manifest: bytes, config: bytes, kind: str = MANIFEST) -> None:
        import http.server
        import threading

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                content = manifest if "/manifests/" in self.path else config
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def docker_save(path: Path, made: Made) -> Path:
    """What `docker save` wrote before release 25: no index, plain layers."""
    files = {"c.json": made.config, "l.tar": made.layers[0][1]}
    files["manifest.json"] = json.dumps([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l.tar"]}]).encode()
    path.write_bytes(tar_of(files))
    return path


def test_of_a_saved_archive_the_unpacked_size_is_known_without_reading_it(desk: Desk) -> None:
    layer = tar_of({"bin/hello": b"x" * 5000})
    docker_save(desk.folder / "saved.tar", Made([(LAYER, layer)], process={"Entrypoint": ["/bin/hello"]}))
    told = desk.inspect("saved.tar", "--architecture", OURS)
    assert (told["size_bytes"], told["unpacked_bytes"]) == (len(layer), len(layer))
    assert told["digest"] is None
    assert told["process"]["entrypoint"] == ["/bin/hello"]
    assert "re-compressed" in told["lambda"]["remarks"][0]
    assert desk.inspect("docker-archive:saved.tar", "--architecture", OURS)["layers"] == told["layers"]


def test_no_value_of_the_environment_is_ever_shown(desk: Desk) -> None:
    folder = layout(desk.folder / "layout", Made([packed()], process={"Cmd": ["x"]}))
    for words in ((), ("-o", "json")):
        done = desk.must("inspect", str(folder), "--architecture", OURS, *words)
        assert "TOKEN" in done.out
        assert "hunter2" not in done.out + done.err


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202e\r\nLambda  yes: takes it"


def test_what_an_image_says_can_neither_drive_the_terminal_nor_forge_a_line(desk: Desk) -> None:
    process = {
        "Cmd": [HOSTILE],
        "Entrypoint": [HOSTILE],
        "User": HOSTILE,
        "WorkingDir": HOSTILE,
        "Env": [f"{HOSTILE}=1"],
    }
    made = Made([packed(), (f"{LAYER}{HOSTILE}", b"?")], process=process)
    entry = described(made.manifest, MANIFEST, platform={"os": "linux", "architecture": OURS})
    other = {**entry, "digest": f"sha256:{1:064x}", "platform": {"os": HOSTILE, "architecture": HOSTILE}}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry, other]}).encode()
    done = desk.must("inspect", str(layout(desk.folder / "layout", made, index=index)), "--architecture", OURS)
    assert not [char for char in done.out if not char.isprintable() and char != "\n"]
    assert "Lambda  yes" not in [line[:11] for line in done.out.splitlines()]
    told = desk.must("inspect", "layout", "--architecture", OURS, "-o", "json").out
    assert "\x1b" not in told
    assert json.loads(told)["images"][0]["process"]["user"] == HOSTILE


def test_a_definition_says_what_will_run(desk: Desk) -> None:
    folder = layout(desk.folder / "layout", Made([packed()], process={"Cmd": ["/bin/hello"], "WorkingDir": "/data"}))
    definition = desk.define("cow", script="#!/bin/busybox sh\n", image_file=str(folder))
    told = desk.inspect("-f", str(definition))
    assert (told["function"], told["architecture"]) == ("cow", OURS)
    assert told["runs"] == {
        "first": "agent", "then": "script", "script": "script.py", "words": ["/bin/busybox", "sh"], "working_directory": "/data",
    }  # fmt: skip
    assert "then script.py, by /bin/busybox sh, in /data" in desk.must("inspect", "-f", str(definition)).out
    definition = desk.define("cow", script=None, image_file=str(folder))
    assert desk.inspect("-f", str(definition))["runs"]["then"] == "command"
    assert 'the image\'s own command ["/bin/hello"] in /data' in desk.must("inspect", "-f", str(definition)).out
    definition = desk.define("cow", "hen", image="scratch")
    assert [each["function"] for each in desk.must("inspect", "-f", str(definition), "-o", "json").json["images"]] == [
        "cow",
        "hen",
    ]
    assert desk.inspect("-f", str(definition), "-n", "hen")["function"] == "hen"


def libc_image(folder: Path, **process: Any) -> Path:
    """An image with this machine's own shell, loader and C library: dynamic programs of glibc, and nothing else."""
    tree = folder / "tree"
    told = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    needed = [word for word in told.split() if word.startswith("/")]
    for path in ("/bin/sh", *needed):
        (tree / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tree / path[1:])
    with tarfile.open(folder / "layer.tar", "w") as tar:
        tar.add(tree, ".")
    layer = (f"{LAYER}+gzip", gzip.compress((folder / "layer.tar").read_bytes(), mtime=0))
    return layout(folder / "layout", Made([layer], process=process))


def test_a_scan_tells_the_unpacked_size_and_that_a_zip_runtime_can_run_it(desk: Desk) -> None:
    folder = libc_image(desk.folder, Cmd=["/bin/sh"])
    files = sum(path.stat().st_size for path in (desk.folder / "tree").rglob("*") if path.is_file())
    told = desk.inspect(str(folder), "--architecture", OURS, "--scan")
    assert told["unpacked_bytes"] == files
    assert told["zip"] == {"accepted": True, "why_not": []}
    assert "missing" not in told["runs"]
    shown = desk.must("inspect", str(folder), "--architecture", OURS, "--scan").out
    assert "zip     yes" in shown
    assert "MiB unpacked" in shown


def test_a_scan_finds_what_a_zip_runtime_cannot_hold_and_what_the_script_lacks(desk: Desk) -> None:
    folder = layout(desk.folder / "layout", Made([packed()], process={"Cmd": ["/bin/absent"]}))
    definition = desk.define("cow", script="#!/usr/bin/env perl\n", image_file=str(folder))
    told = desk.inspect("-f", str(definition), "--scan")
    assert told["zip"]["accepted"] is False
    assert "needs an image with the GNU C library" in told["zip"]["why_not"][0]
    assert "the script asks for perl, which is not in" in told["runs"]["missing"]
    assert told["lambda"]["accepted"] is True
    definition = desk.define("cow", script=None, image_file=str(folder))
    assert "/bin/absent" in desk.inspect("-f", str(definition), "--scan")["runs"]["missing"]
    shown = desk.must("inspect", "-f", str(definition), "--scan").out
    assert "but its own command starts with /bin/absent, which is not in" in shown.replace("\n        ", " ")


def test_a_damaged_layer_is_found_by_a_scan(desk: Desk) -> None:
    kind, content = packed()
    folder = layout(desk.folder / "layout", Made([(kind, content)]))
    (folder / "blobs" / "sha256" / hashlib.sha256(content).hexdigest()).write_bytes(content[:-1] + b"!")
    done = desk.scar("inspect", str(folder), "--architecture", OURS, "--scan")
    assert (done.code, done.out) == (1, "")
    assert digest_of(content)[7:] in done.err


# -- what goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "which of inspect, derive, push, prune?"),
        (("inspect",), 2, "name an image, or a definition file with -f"),
        (("inspect", "scratch", "-f", "function.yaml"), 2, "name an image, or a definition file with -f"),
        (("inspect", "scratch", "-n", "cow"), 2, "no file is named"),
        (("inspect", "scratch", "--architecture", "vax"), 2, "'vax' is neither x86_64 nor arm64"),
        (("inspect", "Not/A/Name"), 2, "is not a repository's name"),
        (("inspect", "absent.tar"), 3, "absent.tar: the image file cannot be read"),
        (("inspect", "./absent"), 3, "absent: the image file cannot be read"),
        (("derive", "-f", "absent.yaml"), 2, "absent.yaml"),
        (("derive", "-f", "function.yaml", "-n", "horse"), 3, "defines no function called 'horse'"),
        (("derive", "-f", "function.yaml", "--to", "image.zip"), 2, "names no form"),
        (("derive", "-f", "function.yaml", "--to", "x.tar"), 2, "defines several functions"),
        (("derive", "-f", "function.yaml", "-n", "cow", "--to", "absent/x.tar"), 3, "there is no such folder"),
        (("derive", "-f", "function.yaml", "-n", "cow", "--to", "."), 5, "holds something else than this image"),
        (("push", "-f", "function.yaml", "-n", "cow"), 2, "no AWS region is set"),
        (("push", "-f", "function.yaml", "--to", "127.0.0.1:1/x"), 2, "defines several functions"),
        (("push", "-f", "function.yaml", "-n", "cow", "--to", f"a.b/c@sha256:{1:064x}"), 2, "pushed by a tag"),
        (("prune", "--max-size", "large"), 2, "'large' is not a size"),
        (("prune", "--max-size", "1GB", "--all"), 2, "not allowed with"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_clear_sentence_with_its_exit_code(
    desk: Desk, words: tuple[str, ...], code: int, said: str
) -> None:
    desk.define("cow", "hen")
    done = desk.scar(*words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_an_image_that_is_not_there_is_3_and_one_that_may_not_be_seen_is_4(
    desk: Desk, registry: RunningRegistry, closed_registry: RunningRegistry
) -> None:
    absent = desk.scar("inspect", f"{registry.host}/team/absent:1")
    assert absent.code == 3
    assert "team/absent" in absent.err
    closed = desk.scar("inspect", f"{closed_registry.host}/team/x:1")
    assert closed.code == 4
    assert "docker login" in closed.err
    desk.define("cow")
    assert desk.scar("push", "-f", "function.yaml", "--to", f"{closed_registry.host}/team/x:1").code == 4


def test_a_password_in_a_name_is_refused_and_not_repeated(desk: Desk) -> None:
    desk.define("cow")
    for words in (("inspect", "bob:hunter2@a.b/c"), ("push", "-f", "function.yaml", "--to", "bob:hunter2@a.b/c")):
        done = desk.scar(*words)
        assert done.code == 2
        assert "docker login" in done.err
        assert "hunter2" not in done.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(desk: Desk, verb: str) -> None:
    done = desk.must(verb, "--help")
    assert f"Example:\n  scar image {verb}" in done.out


# -- derive -----------------------------------------------------------------------------------------------------


def test_deriving_tells_the_digest_and_what_is_new(desk: Desk) -> None:
    desk.define("cow", "hen")
    cow, hen = desk.must("derive", "-f", "function.yaml", "-o", "json").json["images"]
    assert cow["new"]["agent"] == hen["new"]["agent"]
    assert cow["digest"] != hen["digest"]
    assert cow["new"]["function"]["size_bytes"] < 2000
    assert cow["layers"] == 3
    shown = desk.must("derive", "-f", "function.yaml", "-n", "hen").out
    assert f"digest  {hen['digest']}" in shown


@pytest.mark.parametrize("target", ["cow.tar", "cow/", "docker-archive:cow.tar"])
def test_a_written_image_is_the_same_bytes_each_time_and_tells_what_it_is(desk: Desk, target: str) -> None:
    desk.define("cow")
    first = desk.must("derive", "-f", "function.yaml", "--to", target, "-o", "json").json["images"][0]
    path = desk.folder / parse_target(target).path
    before = contents(path)
    desk.must("derive", "-f", "function.yaml", "--to", target)
    assert contents(path) == before
    assert {child.name for child in desk.folder.iterdir()} == {"function.yaml", "script.py", path.name}
    told = desk.inspect(str(path), "--architecture", OURS)
    assert told["digest"] == first["digest"]
    assert told["derived"]["function"]["name"] == "cow"
    assert told["derived"]["function"]["inputs"] == ["cow-bucket/in"]
    assert "Python" in told["derived"]["agent"]
    shown = desk.must("inspect", str(path), "--architecture", OURS).out
    assert "by SCAR, for function cow in mode lambda" in shown


def contents(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else [child for child in path.rglob("*") if child.is_file()]
    return {str(child): hashlib.sha256(child.read_bytes()).hexdigest() for child in files}


def test_a_layout_is_brought_up_to_date_and_nothing_of_the_old_image_stays(desk: Desk) -> None:
    desk.define("cow")
    desk.must("derive", "-f", "function.yaml", "--to", "cow/")
    desk.define("cow", script="#!/usr/bin/python3\nprint('changed')\n")
    changed = desk.must("derive", "-f", "function.yaml", "--to", "cow/", "-o", "json").json["images"][0]
    desk.must("derive", "-f", "function.yaml", "--to", "fresh/")
    assert {Path(name).name for name in contents(desk.folder / "cow")} == {
        Path(name).name for name in contents(desk.folder / "fresh")
    }
    assert desk.inspect("cow", "--architecture", OURS)["digest"] == changed["digest"]


@pytest.mark.parametrize("target", ["out.tar", "out/", "docker-archive:out.tar"])
def test_a_damaged_image_is_not_written_at_all(desk: Desk, target: str) -> None:
    kind, content = packed()
    folder = layout(desk.folder / "layout", Made([(kind, content)]))
    (folder / "blobs" / "sha256" / hashlib.sha256(content).hexdigest()).write_bytes(content[:-1] + b"!")
    desk.define("cow", image_file=str(folder))
    done = desk.scar("derive", "-f", "function.yaml", "--to", target)
    assert done.code == 1
    assert digest_of(content) in done.err
    assert {child.name for child in desk.folder.iterdir()} == {"function.yaml", "script.py", "layout"}


@pytest.mark.parametrize("target", ["cow.tar", "cow/"])
def test_what_a_killed_process_left_is_removed_by_the_next(desk: Desk, target: str) -> None:
    desk.define("cow")
    left = desk.folder / ".cow.tar.0123.part" if target == "cow.tar" else desk.folder / ".cow.0123.part"
    left.write_bytes(b"half") if target == "cow.tar" else (left / "blobs").mkdir(parents=True)
    desk.must("derive", "-f", "function.yaml", "--to", target)
    assert not left.exists()


def test_other_tools_read_what_was_written(desk: Desk) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed (package skopeo); the gate installs it")
    desk.define("cow")
    digest = desk.must("derive", "-f", "function.yaml", "--to", "cow.tar", "-o", "json").json["images"][0]["digest"]
    desk.must("derive", "-f", "function.yaml", "--to", "cow/")
    desk.must("derive", "-f", "function.yaml", "--to", "docker-archive:saved.tar")
    for source in ("oci-archive:cow.tar", "oci:cow"):
        seen = subprocess.run(
            ["skopeo", "inspect", "--raw", source], cwd=desk.folder, capture_output=True, timeout=60, check=True
        )
        assert digest_of(seen.stdout) == digest
    copied = ["skopeo", "copy", "--quiet", "--insecure-policy", "docker-archive:saved.tar", "oci:copied"]
    subprocess.run(copied, cwd=desk.folder, capture_output=True, timeout=60, check=True)
    with tarfile.open(desk.folder / "saved.tar") as tar:
        assert {"manifest.json", "index.json", "oci-layout"} <= set(tar.getnames())


@pytest.mark.skipif(os.geteuid() != 0, reason="podman needs root here")
@pytest.mark.parametrize("target", ["docker-archive:cow.tar", "cow.tar"])
def test_podman_loads_what_was_written_and_runs_it(desk: Desk, target: str) -> None:
    desk.define("podman-cow")
    desk.must("derive", "-f", "function.yaml", "--to", target)
    loaded = subprocess.run(
        ["podman", "load", "-i", "cow.tar"], cwd=desk.folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    name = loaded.stdout.rpartition(" ")[2].strip()
    try:
        assert "scar/podman-cow:latest" in name
        run = [
            "podman",
            "run",
            "--rm",
            "--network=none",
            "--entrypoint",
            "/usr/bin/python3",
            name,
            "-c",
            "print(6 * 7)",
        ]
        ran = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
        assert ran.stdout == "42\n", ran.stderr
    finally:
        subprocess.run(["podman", "rmi", "--force", name], capture_output=True, timeout=60, check=False)


# -- push -------------------------------------------------------------------------------------------------------


def test_a_second_push_moves_nothing_and_says_so(desk: Desk, registry: RunningRegistry) -> None:
    desk.define("cow")
    first = desk.must("push", "-f", "function.yaml", "--to", f"{registry.host}/team/cow:1")
    digest = desk.must("derive", "-f", "function.yaml", "-o", "json").json["images"][0]["digest"]
    assert first.out == f"{registry.host}/team/cow@{digest}\n"
    assert "sent" in first.err
    again = desk.must("push", "-f", "function.yaml", "--to", f"{registry.host}/team/cow:1")
    assert again.out == first.out
    assert "nothing was sent" in again.err
    (other,) = desk.must("push", "-f", "function.yaml", "--to", f"{registry.host}/team/cow:2", "-o", "json").json[
        "images"
    ]
    assert other["reference"] == first.out.strip()
    assert other["bytes_sent"] < 10_000
    assert other["bytes_present"] > 1_000_000
    told = desk.inspect(first.out.strip(), "--architecture", OURS)
    assert told["derived"]["function"]["name"] == "cow"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"runtime": "python3.13"}, "needs no repository"),
        ({"container": {"image": f"{ECR}/cow:1", "create_image": False}}, "there is nothing to push"),
    ],
)
def test_what_needs_no_repository_is_not_pushed_to_one(desk: Desk, more: dict[str, Any], said: str) -> None:
    path = desk.define("cow")
    document = json.loads(path.read_text())
    document["functions"]["aws"][0]["lambda"] |= more
    path.write_text(json.dumps(document))
    done = desk.scar("push", "-f", "function.yaml", "--region", "eu-west-1")
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_push_makes_the_functions_own_repository_as_init_would(tmp_path: Path, image_cache: Path) -> None:
    (tmp_path / "work").mkdir()
    desk = Desk(tmp_path / "work", image_cache)
    local = Local(tmp_path / "work", tmp_path / "state")
    desk.define("cow")
    try:
        words = ("image", "push", "-f", "function.yaml")
        (first,) = own_cache(local, image_cache, *words, "-o", "json").json["images"]
        assert first["repository_made"] is True
        assert first["bytes_sent"] > 1_000_000
        second = own_cache(local, image_cache, *words)
        assert second.out == f"{first['reference']}\n"
        assert "nothing was sent" in second.err
        ecr = local.client("ecr")
        (repository,) = ecr.describe_repositories()["repositories"]
        assert first["reference"] == f"{repository['repositoryUri']}@{first['digest']}"
        assert repository["imageTagMutability"] == "IMMUTABLE"
        assert repository["imageScanningConfiguration"]["scanOnPush"] is True
        assert ecr.get_lifecycle_policy(repositoryName=repository["repositoryName"])["lifecyclePolicyText"]
        tags = ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"]
        assert {"Key": "scar:function", "Value": "cow"} in tags
        plan = own_cache(local, image_cache, "plan", "-f", "function.yaml", "-o", "json").json["steps"]
        assert {step["kind"] for step in plan} & {"repository", "image"} == set()
        assert "function" in {step["kind"] for step in plan}
    finally:
        local.scar("local", "down")


def own_cache(local: Local, cache: Path, *words: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "scar", "--local", *words],
        capture_output=True, text=True, cwd=local.folder, env=local.environ | {"SCAR_CACHE": str(cache)}, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


# -- prune ------------------------------------------------------------------------------------------------------


def kept(cache: Path, kind: str, name: str, size: int, age_s: float) -> Path:
    """Something as the cache keeps it, last used so long ago."""
    folder = cache / kind / name
    folder.mkdir(parents=True)
    (folder / "layer.tar.gz").write_bytes(b"x" * size)
    (folder / "lock").touch()
    then = time.time() - age_s
    os.utime(folder / "lock", (then, then))
    return folder


@pytest.fixture
def pantry(tmp_path: Path) -> Desk:
    """A desk with a cache of its own: three things of a megabyte, and something that is not ours."""
    (tmp_path / "desk").mkdir()
    cache = tmp_path / "cache"
    for age, (kind, name) in enumerate([("agent", "new"), ("layers", "older"), ("archives", "oldest")]):
        kept(cache, kind, name, 1_000_000, 3600 * (age + 1))
    (cache / "mine").mkdir()
    (cache / "mine" / "file").write_text("not scar's")
    return Desk(tmp_path / "desk", cache)


def left(desk: Desk) -> set[str]:
    return {lock.parent.name for lock in desk.cache.glob("*/*/lock")}


def test_the_least_recently_used_goes_until_the_rest_fits(pantry: Desk) -> None:
    would = pantry.must("prune", "--max-size", "2.1MB", "--dry-run")
    assert "would go" in would.out
    assert left(pantry) == {"new", "older", "oldest"}
    told = pantry.must("prune", "--max-size", "2.1MB", "-o", "json").json
    assert [Path(each["path"]).name for each in told["removed"]] == ["oldest"]
    assert [Path(each["path"]).name for each in told["kept"]] == ["new", "older"]
    assert 1_000_000 <= told["freed_bytes"] < 1_100_000
    assert left(pantry) == {"new", "older"}
    shown = pantry.must("prune", "--all")
    assert "freed 1.9 MiB; 0 B stay" in shown.err
    assert "agent layer" in shown.out
    assert "1 hour ago" in shown.out
    assert left(pantry) == set()
    assert (pantry.cache / "mine" / "file").read_text() == "not scar's"
    nothing = pantry.must("prune")
    assert nothing.out == ""
    assert "Nothing is kept" in nothing.err


def test_what_is_in_use_stays_whatever_was_asked(pantry: Desk) -> None:
    with (pantry.cache / "layers" / "older" / "lock").open("rb") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        told = pantry.must("prune", "--all", "-o", "json").json
        assert [(Path(each["path"]).name, each["in_use"]) for each in told["kept"]] == [("older", True)]
    assert left(pantry) == {"older"}


def test_what_a_running_process_has_taken_from_the_cache_stays(pantry: Desk) -> None:
    """The lock of a layer is free again once it is made; a push may still be reading it."""
    code = (
        "import sys, pathlib; from scar.package.cache import in_cache\n"
        "with in_cache(pathlib.Path(sys.argv[1])): pass\n"
        "print('taken', flush=True); sys.stdin.read()"
    )
    taken = subprocess.Popen(
        [sys.executable, "-c", code, str(pantry.cache / "layers" / "older")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )  # fmt: skip
    with taken:
        assert taken.stdout is not None and taken.stdout.readline() == b"taken\n"
        pantry.must("prune", "--all")
        assert left(pantry) == {"older"}
        taken.communicate()
    pantry.must("prune", "--all")
    assert left(pantry) == set()


def test_prunes_and_a_reader_at_once_do_not_hurt_each_other(pantry: Desk) -> None:
    layer = tar_of({"bin/hello": b"hello"})
    saved = docker_save(pantry.folder / "saved.tar", Made([(LAYER, layer)]))
    (pantry.folder / "saved.tgz").write_bytes(gzip.compress(saved.read_bytes(), mtime=0))
    for number in range(60):
        kept(pantry.cache, "layers", f"l{number}", 10_000, number)
    words = [("prune", "--all"), ("inspect", "saved.tgz", "--architecture", OURS, "--scan"), ("prune", "--all")]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "scar", "image", *each],
            cwd=pantry.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(pantry.folder), "PYTHONPATH": PYTHONPATH, "SCAR_CACHE": str(pantry.cache)},
        )
        for each in words
    ]  # fmt: skip
    ended = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for _, _, code in ended] == [0, 0, 0], ended
    assert f"{size(5)} unpacked" in ended[1][0]
    assert left(pantry) <= {each.name for kind in ("archives", "scans") for each in (pantry.cache / kind).iterdir()}


def test_what_a_killed_prune_left_is_removed_by_the_next(pantry: Desk) -> None:
    (pantry.cache / "layers" / "older").rename(pantry.cache / "layers" / ".removed-0123")
    pantry.must("prune")
    assert not (pantry.cache / "layers" / ".removed-0123").exists()
    assert left(pantry) == {"new", "oldest"}
