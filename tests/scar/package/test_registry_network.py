"""How registries are reached: private authorities, client certificates, proxies, and where logins are kept."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from scar.errors import DeniedError, ScarError, ServiceError
from scar.package import oci
from scar.package.derive import assemble
from scar.package.registry import Registry
from scar.package.registry.credentials import Credentials, login_files
from scar.package.registry.network import Network, network_of, proxy_for
from scar.package.registry.push import push
from tests.scar.package.images import config_of, small_layer
from tests.support.certificates import Authority
from tests.support.registries import PASSWORD, USER, RunningRegistry, start_registry
from tests.support.wires import Proxy

ROOT = Path(__file__).parents[3]


def image() -> oci.Image:
    layer = small_layer()
    return assemble(json.loads(config_of(layer.diff_id)), (layer,))


@dataclass(frozen=True)
class Secure:
    """A registry that speaks TLS, and who has signed its certificate."""

    host: str
    authority: Authority


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    authority = Authority(folder)
    registry = start_registry(folder, tls=authority)
    yield Secure(registry.host, authority)
    registry.stop()


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """A registry that calls itself registry.example; its `host` is where a proxy finds it."""
    folder = tmp_path_factory.mktemp("far")
    authority = Authority(folder)
    registry = start_registry(folder, tls=authority, name="registry.example")
    yield Secure(registry.host, authority)
    registry.stop()


# ---- certificates


def test_a_registry_on_this_machine_may_speak_tls_with_a_private_authority(secure: Secure) -> None:
    network = Network(ca_files=(secure.authority.certificate,))
    assert push(image(), Registry(secure.host, network=network), "ca", tag="1").bytes_sent > 0


def test_an_authority_that_nobody_has_named_is_not_trusted_and_plain_http_is_not_tried(secure: Secure) -> None:
    pauses: list[float] = []
    with pytest.raises(ServiceError, match=r"(?i)certificate") as raised:
        push(image(), Registry(secure.host, sleep=pauses.append), "ca", tag="1")
    assert "SSL_CERT_FILE" in str(raised.value)
    assert pauses == []


def test_certificates_are_found_where_docker_keeps_them(secure: Secure, tmp_path: Path) -> None:
    folder = tmp_path / secure.host
    folder.mkdir()
    (folder / "ca.crt").write_bytes(secure.authority.certificate.read_bytes())
    network = Network(certs_directories=(tmp_path / "absent", tmp_path))
    assert push(image(), Registry(secure.host, network=network), "certs.d", tag="1").digest
    other = Network(certs_directories=(tmp_path / "absent",))
    with pytest.raises(ServiceError):
        push(image(), Registry(secure.host, network=other), "certs.d", tag="1")


def test_a_client_certificate_is_shown_to_the_registry_that_it_is_kept_for(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    servers, clients = Authority(tmp_path, "servers"), Authority(tmp_path, "clients")
    registry = start_registry(tmp_path / "server", tls=servers, clients=clients)
    try:
        folder = tmp_path / "certs.d" / registry.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(servers.certificate.read_bytes())
        network = Network(certs_directories=(tmp_path / "certs.d",))
        with pytest.raises(ServiceError):
            Registry(registry.host, network=network, sleep=lambda _: None).manifest("x", "1")
        pair = clients.certify("somebody", tmp_path, "client")
        (folder / "client.cert").write_bytes(pair.certificate.read_bytes())
        (folder / "client.key").write_bytes(pair.key.read_bytes())
        assert push(image(), Registry(registry.host, network=network), "client", tag="1").digest
    finally:
        registry.stop()


def test_a_certificate_file_that_cannot_be_used_is_named(secure: Secure, tmp_path: Path) -> None:
    (tmp_path / "not.pem").write_text("hello")
    for path in (tmp_path / "not.pem", tmp_path / "absent.pem"):
        with pytest.raises(ScarError, match=path.name):
            Registry(secure.host, network=Network(ca_files=(path,))).manifest("x", "1")


# ---- proxies


def test_a_registry_behind_a_proxy_is_reached_with_its_login(far: Secure) -> None:
    with Proxy(far.host, login="me:s3cret/@") as proxy:
        network = Network(https_proxy=f"http://me:s3cret%2F%40@{proxy.host}", ca_files=(far.authority.certificate,))
        assert push(image(), Registry("registry.example", network=network), "proxied", tag="1").bytes_sent > 0
        assert set(proxy.asked) == {"registry.example:443"}


def test_a_proxy_that_refuses_is_told_as_such_without_the_password(far: Secure) -> None:
    pauses: list[float] = []
    with Proxy(far.host, login="me:right") as proxy:
        network = Network(https_proxy=f"http://me:hush-hush@{proxy.host}", ca_files=(far.authority.certificate,))
        with pytest.raises(ServiceError, match="the proxy refuses the connection: 407") as raised:
            push(image(), Registry("registry.example", network=network, sleep=pauses.append), "proxied", tag="1")
    assert pauses == []
    assert "HTTPS_PROXY" in str(raised.value)
    assert "hush" not in f"{raised.value} {raised.value.__cause__!r} {network!r}"


def test_this_machine_and_what_no_proxy_names_are_reached_without_it(secure: Secure) -> None:
    with Proxy("127.0.0.1:1") as proxy:
        network = Network(https_proxy=f"http://{proxy.host}", ca_files=(secure.authority.certificate,))
        assert push(image(), Registry(secure.host, network=network), "direct", tag="1").digest
        excepted = replace(network, no_proxy="registry.invalid")
        with pytest.raises(ServiceError, match=r"registry\.invalid"):
            Registry("registry.invalid", network=excepted, sleep=lambda _: None).manifest("x", "1")
        assert proxy.asked == []


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "https://registry.example/", False),
        ("*", "https://registry.example/", True),
        ("example", "https://registry.example/", True),
        (".example", "https://registry.example/", True),
        ("*.example", "https://a.b.example/", True),
        ("registry.example", "https://notregistry.example/", False),
        ("other.example, REGISTRY.example", "https://registry.example/", True),
        ("registry.example:443", "https://registry.example/", True),
        ("registry.example:5000", "https://registry.example/", False),
        ("registry.example:5000", "https://registry.example:5000/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.3:5000/", True),
        ("10.0.0.0/8", "https://registry.example/", False),
        ("", "https://localhost:5000/", True),
        ("", "https://127.0.0.1:5000/", True),
        ("", "https://[::1]:5000/", True),
        ("", "http://127.0.0.1:5000/", True),
    ],
)
def test_who_is_reached_without_the_proxy(no_proxy: str, url: str, direct: bool) -> None:
    network = Network(https_proxy="proxy.example:3128", no_proxy=no_proxy)
    assert proxy_for(network, url) == (None if direct else "http://proxy.example:3128")


@pytest.mark.parametrize("proxy", ["socks5://me:hush@127.0.0.1:1", "http://"])
def test_a_proxy_of_another_kind_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(ScarError, match="cannot be used") as raised:
        Registry("registry.example", network=Network(https_proxy=proxy)).manifest("x", "1")
    assert "hush" not in str(raised.value)


# ---- what the environment says


def test_the_environment_is_read_by_the_names_that_others_use() -> None:
    home = Path("/home/me")
    said = network_of(
        {
            "HTTPS_PROXY": "http://upper", "https_proxy": "http://lower", "NO_PROXY": "a,b", "HTTP_PROXY": "http://plain",
            "SSL_CERT_FILE": "/ca/1", "AWS_CA_BUNDLE": "/ca/2", "REQUESTS_CA_BUNDLE": "",
            "DOCKER_CONFIG": "/docker", "REGISTRY_AUTH_FILE": "/said.json", "XDG_RUNTIME_DIR": "/run/me", "XDG_CONFIG_HOME": "/conf",
        },
        home,
    )  # fmt: skip
    assert (said.https_proxy, said.no_proxy) == ("http://lower", "a,b")
    assert said.ca_files == (Path("/ca/1"), Path("/ca/2"))
    assert list(map(str, said.login_files)) == [
        "/said.json",
        "/docker/config.json",
        "/run/me/containers/auth.json",
        "/conf/containers/auth.json",
    ]
    assert list(map(str, network_of({}, home).login_files)) == [
        "/home/me/.docker/config.json",
        "/home/me/.config/containers/auth.json",
    ]
    assert network_of({}, None) == Network(certs_directories=said.certs_directories[1:])


def login(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_the_first_file_that_knows_a_registry_answers(tmp_path: Path) -> None:
    first, second = tmp_path / "config.json", tmp_path / "auth.json"
    first.write_text(json.dumps({"auths": {"a.example": login("a1"), "b.example": {}}}))
    second.write_text(json.dumps({"auths": {"a.example": login("a2"), "b.example": login("b2")}}))
    find = login_files([tmp_path / "absent.json", first, second])
    assert [find(host) for host in ("a.example", "b.example", "c.example")] == [
        Credentials("a1", PASSWORD),
        Credentials("b2", PASSWORD),
        None,
    ]


OPEN = """
import sys
from pathlib import Path
from scar.package.source import open_image
print(open_image(sys.argv[1], None, architecture="x86_64", cache=Path(sys.argv[2])).digest)
"""


@pytest.mark.parametrize("kept", ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME"])
def test_an_image_is_opened_with_the_login_that_is_kept_for_it(
    basic_registry: RunningRegistry, tmp_path: Path, kept: str
) -> None:
    pushed = image()
    push(pushed, Registry(basic_registry.host, Credentials(USER, PASSWORD)), "kept", tag="1")
    file = {
        "REGISTRY_AUTH_FILE": tmp_path / "any.json",
        "DOCKER_CONFIG": tmp_path / "config.json",
        "HOME": tmp_path / ".docker" / "config.json",
    }.get(kept, tmp_path / "containers" / "auth.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"auths": {basic_registry.host: login()}}))
    environ = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'faas-supervisor'}"}
    environ[kept] = str(file if kept == "REGISTRY_AUTH_FILE" else tmp_path)
    argv = [sys.executable, "-c", OPEN, f"{basic_registry.host}/kept:1", str(tmp_path / "cache")]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == pushed.digest, done.stderr
    without = subprocess.run(
        argv, env=environ | {kept: "/nonexistent"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert DeniedError.__name__ in without.stderr
