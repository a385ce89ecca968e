"""The agent layer: that it runs where nothing else is, and that it is the same bytes every time."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from faassupervisor import contract
from scar.errors import ScarError
from scar.package import oci
from scar.package.agent import AgentLayer, Origin, agent_layer
from scar.package.agent.elf import Elf, portable, read
from scar.package.agent.interpreter import loader_of
from scar.package.derive import derive
from scar.package.source.scratch import scratch
from tests.scar.package.images import run_inside, unpack

SCRIPT = b"""#!/usr/bin/env python3
import json, sys, zlib, csv, decimal, sqlite3, ssl, urllib.request, xml.etree.ElementTree, concurrent.futures, asyncio
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    total = sum(pool.map(int, ["1", "2"]))
print(json.dumps({"arguments": sys.argv[1:], "authorities": ssl.create_default_context().cert_store_stats()["x509_ca"] > 50,
                  "total": total, "encoding": sys.getfilesystemencoding()}))
"""


@pytest.fixture(scope="module", params=Origin, ids=lambda origin: origin.value)
def origin(request: pytest.FixtureRequest) -> Origin:
    chosen: Origin = request.param
    return chosen


@pytest.fixture(scope="module")
def agent(origin: Origin, cache: Path) -> AgentLayer:
    return agent_layer(cache=cache, origin=origin)


@pytest.fixture(scope="module")
def image(agent: AgentLayer) -> oci.Image:
    base = scratch(agent.architecture)
    return derive(base, agent, spec=contract.Spec("hello"), script=SCRIPT)


@pytest.fixture(scope="module")
def root(image: oci.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(image, tmp_path_factory.mktemp("root"))


def python_of(agent: AgentLayer) -> tuple[str, ...]:
    return agent.entrypoint[:-1]


def test_the_bundled_python_runs_in_an_image_that_holds_nothing_else(agent: AgentLayer, tmp_path: Path) -> None:
    only_agent = unpack(oci.Image(b"", "", "", agent.layer.blob, (agent.layer,)), tmp_path)
    program = "import sys; sys.path.append('/opt/scar/app'); import ssl, zlib, boto3, faassupervisor.contract; print(sys.path)"
    run = run_inside(only_agent, *python_of(agent), "-c", program)
    assert run.returncode == 0, run.stderr
    assert "/opt/scar/lib/python" in run.stdout
    assert run.stderr == ""


def test_every_extension_module_of_the_bundle_can_be_imported(agent: AgentLayer, root: Path) -> None:
    program = (
        "import importlib, os, sys; d = next(p for p in sys.path if p.endswith('lib-dynload'));"
        "[importlib.import_module(n.partition('.')[0]) for n in os.listdir(d)]"
    )
    run = run_inside(root, *python_of(agent), "-c", program)
    assert run.returncode == 0, run.stderr


def test_an_s3_client_can_be_made_with_the_bundles_own_models_and_certificates(agent: AgentLayer, root: Path) -> None:
    program = (
        "import sys; sys.path.append('/opt/scar/app'); import boto3, botocore.httpsession as h;"
        "s = boto3.Session('a', 'b', region_name='eu-west-1');"
        "[s.client(n) for n in ('s3', 'sts', 'batch', 'lambda', 'logs', 'ecr', 'sso', 'sso-oidc')]; s.resource('s3');"
        "print(open(h.get_cert_path(True)).read().count('BEGIN CERT') > 50)"
    )
    run = run_inside(root, *python_of(agent), "-c", program)
    assert run.stdout == "True\n", run.stderr


def test_the_bundles_cut_down_models_find_the_same_endpoints_and_operations(agent: AgentLayer, root: Path) -> None:
    program = (
        "import json, sys; sys.path.append('/opt/scar/app'); import botocore.session; found = {};"
        "session = botocore.session.Session();"
        "clients = [(n, r, session.create_client(n, r, aws_access_key_id='a', aws_secret_access_key='b'))"
        " for n in ('s3', 'sts', 'batch', 'lambda', 'logs', 'ecr', 'sso', 'sso-oidc') for r in ('eu-west-1', 'us-gov-west-1', 'cn-north-1')];"
        "print(json.dumps([[n, r, c.meta.endpoint_url, c.meta.service_model.api_version, c.meta.service_model.operation_names,"
        " session.get_available_regions(n)] for n, r, c in clients]))"
    )
    cut = run_inside(root, *python_of(agent), "-c", program)
    whole = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(cut.stdout) == json.loads(whole.stdout), cut.stderr


HOSTILE_VARIABLES = {
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "PYTHONSTARTUP": "/nowhere.py",
    "PYTHONWARNINGS": "error",
    "LD_LIBRARY_PATH": "/nowhere",
    "LD_BIND_NOW": "1",
    "LC_ALL": "xx_YY",
    "LOCPATH": "/nowhere",
    "GCONV_PATH": "/nowhere",
    "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.nonesuch=7",
    "SSL_CERT_FILE": "/nowhere.pem",
    "SSL_CERT_DIR": "/nowhere",
    "MALLOC_PERTURB_": "165",
    "RES_OPTIONS": "nonesuch",
    "TZ": ":/nowhere",
    "TMPDIR": "/nowhere",
}
WORK = (
    "import sys, ssl, socket, time; sys.path.append('/opt/scar/app'); import boto3;"
    "s = boto3.Session('a', 'b', region_name='eu-west-1').client('s3'); time.localtime();"
    "socket.getaddrinfo('127.0.0.1', 80); ssl.create_default_context(cafile='/opt/scar/etc/ca-certificates.pem');"
    "print(sys.prefix, sys.getfilesystemencoding())"
)


def test_the_images_environment_does_not_disturb_the_agents_python(agent: AgentLayer, root: Path) -> None:
    run = run_inside(root, *python_of(agent), "-c", WORK, environment=HOSTILE_VARIABLES)
    assert (run.stdout, run.stderr) == ("/opt/scar utf-8\n", "")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("etc/ld.so.preload", "/nowhere.so\n"),
        ("etc/ld.so.cache", "no cache at all"),
        (
            "etc/nsswitch.conf",
            "passwd: nonesuch\nhosts: nonesuch [!UNAVAIL=return] files mdns4_minimal [NOTFOUND=return] dns\n",
        ),
        ("etc/host.conf", "nonesuch on\n"),
        ("etc/gai.conf", "nonesuch\n"),
        ("etc/resolv.conf", "nonesuch \nnameserver\n"),
        ("etc/localtime", "no time zone"),
        ("usr/lib/locale/locale-archive", "no locales"),
        ("usr/lib/python3.11/os.py", "raise SystemExit('the image has its own Python')"),
        ("usr/lib/python3.11/sitecustomize.py", "raise SystemExit('the image customizes')"),
    ],
)
def test_odd_files_of_the_image_do_not_disturb_the_agents_python(
    agent: AgentLayer, root: Path, path: str, content: str
) -> None:
    odd = root / path
    made = [folder for folder in odd.parents if not folder.exists()]
    odd.parent.mkdir(parents=True, exist_ok=True)
    before = odd.read_bytes() if odd.exists() else None
    odd.write_text(content)
    try:
        run = run_inside(root, *python_of(agent), "-c", WORK, environment={"LANG": "de_DE.ISO-8859-1"})
    finally:
        odd.unlink() if before is None else odd.write_bytes(before)
        for folder in made:
            folder.rmdir()
    assert (run.stdout, run.stderr) == ("/opt/scar utf-8\n", "")


def test_an_openssl_configuration_of_the_image_does_not_choose_the_agents_algorithms(
    agent: AgentLayer, root: Path
) -> None:
    program = "import _ssl, ssl, os; print(os.path.dirname(ssl.get_default_verify_paths().openssl_cafile))"
    folder = Path(run_inside(root, *python_of(agent), "-c", program).stdout.strip())
    configuration = root / folder.relative_to("/") / "openssl.cnf"
    made = [above for above in configuration.parents if not above.exists()]
    configuration.parent.mkdir(parents=True, exist_ok=True)
    # A known trap: who activates one provider has no default one any more.
    configuration.write_text("openssl_conf = a\n[a]\nproviders = b\n[b]\nlegacy = c\n[c]\nactivate = 1\n")
    try:
        program = "import hashlib, ssl; ssl.create_default_context(); print(len(hashlib.new('sha512_256').digest()))"
        run = run_inside(root, *python_of(agent), "-c", program)
    finally:
        configuration.unlink()
        for above in made:
            above.rmdir()
    assert (run.stdout, run.stderr) == ("32\n", "")


def test_the_bundle_can_be_started_from_any_directory(agent: AgentLayer, root: Path) -> None:
    moved = [word.replace("/opt/scar", f"{root}/opt/scar") for word in python_of(agent)]
    run = subprocess.run(
        [*moved, "-c", "import ssl, sys; print(sys.prefix)"], capture_output=True, text=True, check=False
    )
    assert run.stdout == f"{root}/opt/scar\n", run.stderr


def test_a_script_that_asks_env_for_python_runs_in_scratch(root: Path) -> None:
    run = run_inside(
        root, contract.SCRIPT_PATH, "a", "b c", environment={"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    )
    assert run.returncode == 0, run.stderr
    expected = {"arguments": ["a", "b c"], "authorities": True, "total": 3, "encoding": "utf-8"}
    assert json.loads(run.stdout) == expected


def test_a_plain_python_in_scratch_finds_boto3(root: Path, image: oci.Image) -> None:
    environment = contract.Spec.from_json((root / contract.SPEC_PATH[1:]).read_bytes()).image.environment
    run = run_inside(
        root, "/usr/bin/python3", "-c", "import boto3, ssl, zlib; print('ok')", environment=dict(environment)
    )
    assert run.stdout == "ok\n", run.stderr


def test_env_in_scratch_says_127_for_a_program_that_is_not_there(root: Path) -> None:
    run = run_inside(root, "/usr/bin/env", "COLOUR=blue", "nonesuch")
    assert (run.returncode, run.stderr) == (127, "env: nonesuch: No such file or directory\n")


def test_subprocesses_and_threads_end_cleanly_in_scratch(agent: AgentLayer, root: Path) -> None:
    program = (
        "import subprocess, sys, threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start();"
        "print(subprocess.run(['/usr/bin/python3', '-c', 'raise SystemExit(3)']).returncode)"
    )
    run = run_inside(root, *python_of(agent), "-c", program)
    assert (run.returncode, run.stdout) == (0, "3\n"), run.stderr


def test_the_agent_itself_starts_and_fails_cleanly_without_a_lambda_service(agent: AgentLayer, root: Path) -> None:
    run = run_inside(
        root, *agent.entrypoint, environment={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1", "AWS_REGION": "eu-west-1"}
    )
    assert run.returncode > 0
    assert "ModuleNotFoundError" not in run.stderr


def test_no_file_of_the_bundle_names_a_directory_of_the_build_machine(agent: AgentLayer) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(agent.layer.blob.open()))) as tar:
        for member in tar:
            if member.isreg():
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                if member.name.endswith(".pyc"):
                    assert str(Path(__file__).parents[3]).encode() not in content, member.name
                elif content.startswith(b"\x7fELF") and "/ld-" not in member.name:
                    assert portable(content, member.name) == content, member.name


def test_the_layer_holds_only_the_agents_own_directory_owned_by_root_and_dated_1970(agent: AgentLayer) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(agent.layer.blob.open()))) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names)
    assert all(name == "opt/scar" or name.startswith("opt/scar/") for name in names)
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 0)}
    assert not [name for name in names if (name.endswith(".py") and "_sysconfigdata" not in name) or "/test/" in name]


def test_another_process_elsewhere_builds_the_same_bytes(
    agent: AgentLayer, origin: Origin, cache: Path, tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from scar.package.agent import Origin, agent_layer;"
        "print(agent_layer(cache=Path(sys.argv[1]), origin=Origin(sys.argv[2])).layer.blob.descriptor.digest)"
    )
    environment = dict(os.environ) | {"PYTHONHASHSEED": "77", "LANG": "C", "TZ": "Asia/Tokyo"}
    elsewhere = tmp_path / "c"
    elsewhere.mkdir()
    (elsewhere / "debian").symlink_to(cache / "debian")  # the packages, so that they are not fetched again
    run = subprocess.run(
        [sys.executable, "-c", program, str(elsewhere), origin.value],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == agent.layer.blob.descriptor.digest


def test_a_damaged_cache_is_built_again(cache: Path) -> None:
    agent = agent_layer(cache=cache, origin=Origin.RUNNING)
    digest = agent.layer.blob.descriptor.digest
    layer = next(
        path
        for path in (cache / "agent").glob("*/layer.tar.gz")
        if json.loads((path.parent / "record.json").read_bytes())["digests"]["digest"] == digest
    )
    whole = layer.read_bytes()
    layer.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    again = agent_layer(cache=cache, origin=Origin.RUNNING)
    assert b"".join(again.layer.blob.open()) == whole


def test_a_cached_layer_is_used_without_building(agent: AgentLayer, origin: Origin, cache: Path) -> None:
    told: list[str] = []
    again = agent_layer(cache=cache, origin=origin, tell=lambda done, total, what: told.append(what))
    assert again.layer.blob.descriptor == agent.layer.blob.descriptor
    assert told == []


def test_the_running_python_makes_no_agent_for_another_architecture(agent: AgentLayer, tmp_path: Path) -> None:
    other = "arm64" if agent.architecture == "amd64" else "x86_64"
    with pytest.raises(ScarError, match="running Python"):
        agent_layer(other, cache=tmp_path, origin=Origin.RUNNING)


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScarError, match="not a 64-bit ELF"):
        read(b"#!/bin/sh\n", "x")
    with pytest.raises(ScarError, match="damaged"):
        read(b"\x7fELF\x02\x01" + bytes(20), "x")


@pytest.mark.parametrize(
    ("loader", "kind"), [(None, "statically linked"), ("/lib/ld-musl-x86_64.so.1", "linked with musl")]
)
def test_a_python_without_the_gnu_c_library_is_refused_with_the_reason(loader: str | None, kind: str) -> None:
    with pytest.raises(ScarError, match=f"/x/python3 is {kind}"):
        loader_of(Elf(loader, None, ()), Path("/x/python3"))
