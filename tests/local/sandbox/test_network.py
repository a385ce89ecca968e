"""The promises of `spec.Network`, kept by every engine that this machine can run: sandboxes of one job see each other and nothing else."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sandbox_trials import AS_ROOT, ENGINES, Runner, processes_with

from scar.errors import ScarError
from scar.local.sandbox import Engine
from scar.local.sandbox.spec import Network

KERNELS = [name for name in ENGINES if name in {"root", "user"}]
NODES = ("main", "worker-1", "worker-2")
REPOSITORY = Path(__file__).parents[3]
# In a sandbox: what became of connecting to each `address:port`, a line each; an open port says what it says.
ASK = """
import errno, socket, sys
for target in sys.argv[1:]:
    host, port = target.split(":")
    with socket.socket() as s:
        s.settimeout(1)
        try:
            s.connect((host, int(port))); print(s.recv(99).decode())
        except TimeoutError: print("silence")
        except OSError as error: print(errno.errorcode.get(error.errno, error))
"""
# Says a word to whoever comes, on every address of where it is.
TELL = """
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(); print("up", s.getsockname()[1], flush=True)
while True:
    c, who = s.accept(); c.sendall(("hello " + who[0]).encode()); c.close()
"""


def python(program: str, *arguments: object) -> tuple[str, ...]:
    return ("/usr/bin/python3", "-I", "-S", "-c", program, *map(str, arguments))


@contextlib.contextmanager
def saying(words: bytes, listening: socket.socket) -> Iterator[None]:
    """Says the same to whoever comes, until it is left."""

    def say() -> None:
        with contextlib.suppress(OSError):  # shut down below
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.sendall(words)

    thread = threading.Thread(target=say)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def networks() -> Iterator[Callable[..., Network]]:
    """Makes networks and closes them after the sandboxes are gone (the fixture `runner` comes after it)."""
    with contextlib.ExitStack() as stack:

        def make(engine: Engine, hostnames: tuple[str, ...] = NODES) -> Network:
            made = engine.network(
                hostnames, endpoint="http://127.0.0.1:9", serve=lambda listening: saying(b"the local AWS", listening)
            )
            stack.callback(made.close)
            return made

        yield make


def at(engine: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("runner", [engine], indirect=True)


every_engine = pytest.mark.parametrize(
    "runner", [name for name in ENGINES if name not in {"root, watched", "podman"}], indirect=True
)
kernel_networks = pytest.mark.parametrize("runner", KERNELS, indirect=True)


@every_engine
def test_every_place_reaches_every_other_at_its_own_address(networks: Callable[..., Network], runner: Runner) -> None:
    main, worker, _ = networks(runner.engine).places
    listening = runner.start("", argv=python(TELL, main.address, 0), place=main)
    port = listening.output.readline().split()[1].decode()
    code, said = runner.run("", argv=python(ASK, f"{main.address}:{port}"), place=worker)
    assert (code, said.split()[0]) == (0, "hello")


@kernel_networks
def test_a_place_knows_itself_and_the_others_by_name_whatever_the_image_says(
    networks: Callable[..., Network], runner: Runner
) -> None:
    made = networks(runner.engine)
    code, said = runner.run("hostname; getent hosts main worker-1 worker-2 | tr -s ' '", place=made.places[1])
    assert made.own
    assert code == 0
    assert said.splitlines() == ["worker-1", *(f"{place.address} {place.hostname}" for place in made.places)]
    assert runner.run("hostname -I", place=made.places[1])[1].split() == [made.places[1].address]


@pytest.mark.parametrize("runner", [name for name in ENGINES if name in {"bwrap", "proot"}], indirect=True)
def test_names_are_those_of_the_network_also_where_it_is_the_loopback(
    networks: Callable[..., Network], runner: Runner
) -> None:
    made = networks(runner.engine)
    code, said = runner.run("getent hosts worker-2", place=made.places[0])
    assert (code, said.split()) == (0, [made.places[2].address, "worker-2"])


@kernel_networks
def test_a_program_may_add_to_its_own_hosts_file_where_it_may_write_and_to_no_others(
    networks: Callable[..., Network], runner: Runner
) -> None:
    places = networks(runner.engine).places
    add = "echo 10.1.1.1 mine >>/etc/hosts && getent hosts mine"
    assert runner.run(add, place=places[0], read_only=False, uid=0, gid=0)[0] == 0
    assert runner.run("getent hosts mine", place=places[0])[0] == 0
    assert runner.run("getent hosts mine", place=places[1])[0] == 2
    assert runner.run(add, place=places[1])[0] != 0


@kernel_networks
def test_the_local_aws_answers_at_its_endpoint_and_where_containers_get_their_credentials(
    networks: Callable[..., Network], runner: Runner
) -> None:
    made = networks(runner.engine)
    targets = (made.endpoint.removeprefix("http://"), "169.254.170.2:80")
    assert made.credentials_host == "169.254.170.2"
    assert runner.run("", argv=python(ASK, *targets), place=made.places[2]) == (0, "the local AWS\n" * 2)


@kernel_networks
def test_the_machine_its_network_and_another_job_are_out_of_reach(
    networks: Callable[..., Network], runner: Runner
) -> None:
    """As in a subnet that nobody gave a way out."""
    first, second = networks(runner.engine), networks(runner.engine)
    with socket.create_server(("", 0)) as machine:
        port = machine.getsockname()[1]
        elsewhere = (own_address(), "192.0.2.201", second.places[0].address, second.endpoint[7:].split(":")[0])
        targets = [f"{address}:{port}" for address in ("127.0.0.1", *elsewhere) if address]
        code, said = runner.run("", argv=python(ASK, *targets), place=first.places[0])
    assert (code, said) == (0, "ECONNREFUSED\n" * len(targets))


@kernel_networks
def test_whoever_asks_for_the_outside_is_refused_at_once_however_often_and_learns_its_own_address(
    networks: Callable[..., Network], runner: Runner
) -> None:
    """Programs that wait for a name server, and those that ask which way out they have, are on a network like any other."""
    place = networks(runner.engine).places[1]
    ask = """
import socket, time
begin = time.monotonic()
for number in range(20):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect(("192.0.2.53", 53))
        try: s.send(b"?"); s.recv(9)
        except OSError as error: print(error.strerror, s.getsockname()[0])
print(time.monotonic() - begin < 1)
"""
    code, said = runner.run("", argv=python(ask), place=place)
    assert (code, said) == (0, f"Connection refused {place.address}\n" * 20 + "True\n")


def own_address() -> str | None:
    """This machine's in its own network, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.200", 9))
        except OSError:
            return None
        return str(trial.getsockname()[0])


@kernel_networks
def test_not_even_root_in_a_place_may_change_its_network_or_listen_to_others(
    networks: Callable[..., Network], runner: Runner
) -> None:
    place = networks(runner.engine).places[0]
    root = {"place": place, "uid": 0, "gid": 0, "capabilities": True, "read_only": False}
    sniff = "import socket\nfor kind in (socket.AF_PACKET, socket.AF_INET):\n    try: socket.socket(kind, socket.SOCK_RAW, 1); print('open')\n    except PermissionError: print('refused')"
    change = "PATH=/usr/sbin:$PATH; ip link set eth0 down; ip addr add 10.9.9.9/8 dev eth0; ip link add x type dummy"
    refused = "echo 1 >/proc/sys/net/ipv4/ip_forward; readlink /proc/self/ns/net"
    _, said = runner.run(f'/usr/bin/python3 -I -S -c "{sniff}"; {change}; {refused}', **root)
    assert said.count("refused") == 2
    assert said.count("not permitted") == 3
    assert "Read-only file system" in said
    assert said.splitlines()[-1].startswith("net:")
    assert str(Path("/proc/self/ns/net").readlink()) not in said


@pytest.mark.skipif(not AS_ROOT, reason="rootless podman needs sub-uids, which a bare test user has not")
@pytest.mark.parametrize("runner", ["podman"], indirect=True)
def test_podman_puts_its_containers_into_the_same_kind_of_network(
    networks: Callable[..., Network], runner: Runner
) -> None:
    made = networks(runner.engine)
    listening = runner.start("", argv=python(TELL, "", 7070), place=made.places[0])
    assert listening.output.readline() == b"up 7070\n"
    targets = ("main:7070", "127.0.0.1:7070", "192.0.2.201:80", made.endpoint[7:], "169.254.170.2:80")
    ask = f"/usr/bin/python3 -I -S -c '{ASK}' {' '.join(targets)}; hostname; getent hosts worker-2 | tr -s ' '"
    root = {"place": made.places[1], "uid": 0, "gid": 0, "capabilities": True}
    _, said = runner.run(f"{ask}; /usr/sbin/ip link set eth0 down 2>&1", **root)
    hello, name = f"hello {made.places[1].address}", f"{made.places[2].address} worker-2"
    told = [hello, "ECONNREFUSED", "ECONNREFUSED", "the local AWS", "the local AWS", "worker-1", name]
    assert said.splitlines() == [*told, "RTNETLINK answers: Operation not permitted"]


@pytest.mark.parametrize("count", [2, 32])
@kernel_networks
def test_two_places_or_thirty_two_the_last_hears_the_first_on_any_port(
    networks: Callable[..., Network], runner: Runner, count: int
) -> None:
    places = networks(runner.engine, tuple(f"node-{number}" for number in range(count))).places
    assert len({place.address for place in places}) == count
    listening = runner.start("", argv=python(TELL, "", 22), place=places[-1])
    assert listening.output.readline() == b"up 22\n"
    code, said = runner.run("", argv=python(ASK, f"node-{count - 1}:22"), place=places[0])
    assert (code, said) == (0, f"hello {places[0].address}\n")


@kernel_networks
def test_closing_leaves_nothing_and_nobody_gets_in_any_more(runner: Runner, scratch: Path) -> None:
    engine, descriptors = runner.engine, open_descriptors()
    made = engine.network(NODES, endpoint="", serve=lambda listening: saying(b"", listening))
    code, namespace = runner.run("readlink /proc/self/ns/net", place=made.places[0])
    assert code == 0
    runner.started.pop().output.close()
    made.close()
    made.close()
    assert list((scratch / "networks").iterdir()) == []
    assert open_descriptors() == descriptors
    assert namespaces_of_processes().isdisjoint({namespace.strip()})
    with pytest.raises(ScarError, match="closed"):
        runner.start("true", place=made.places[0])


def open_descriptors() -> set[int]:
    return {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}


def namespaces_of_processes() -> set[str]:
    """Network namespaces that a process is in or holds."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found |= {str(path.readlink()) for path in (process / "ns/net", *(process / "fd").iterdir())}
    return {name for name in found if name.startswith("net:")}


STARTER = """
    import contextlib, sys
    sys.path[:0] = {path!r}
    from pathlib import Path
    from sandbox_trials import AS_ROOT, ENGINES, Runner
    engine = ENGINES[{engine!r}](Path({scratch!r}))
    made = engine.network(("a", "b"), endpoint="", serve=lambda listening: contextlib.nullcontext())
    sandbox = Runner(engine, Path({root!r})).start("readlink /proc/self/ns/net; sleep {mark}", place=made.places[0])
    print(made.places[0].key, sandbox.output.readline().decode(), end="", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", KERNELS)
def test_a_daemon_killed_by_sigkill_takes_its_networks_with_it(
    name: str, engines: Callable[[str], Engine], scratch: Path, root: Path
) -> None:
    mark = f"6{uuid.uuid4().int % 10**8:08d}"
    path = [str(REPOSITORY), str(REPOSITORY / "faas-supervisor"), str(Path(__file__).parent)]
    program = textwrap.dedent(STARTER).format(path=path, engine=name, scratch=str(scratch), root=str(root), mark=mark)
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        folder, namespace = starter.stdout.readline().decode().split()
        assert namespace in namespaces_of_processes()
        os.kill(starter.pid, signal.SIGKILL)
    gone = threading.Event()
    for _ in range(500):
        if not processes_with(f"sleep {mark}") and namespace not in namespaces_of_processes():
            break
        gone.wait(0.02)
    assert not processes_with(f"sleep {mark}")
    assert namespace not in namespaces_of_processes()
    engines(name).network(("a",), endpoint="", serve=lambda listening: contextlib.nullcontext()).close()
    assert not Path(folder).exists()


@kernel_networks
def test_where_no_network_can_be_made_places_are_of_the_loopback_and_isolation_says_why(
    networks: Callable[..., Network], runner: Runner, scratch: Path
) -> None:
    engine = ENGINES[runner_name(runner)](scratch)
    assert engine.probe() is None
    descriptors = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [number for number in range(1000) if number not in descriptors]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[30], hard))
    try:
        made = networks(engine, tuple(f"node-{number}" for number in range(60)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not made.own
    assert made.credentials_host is None
    assert made.endpoint == "http://127.0.0.1:9"
    assert "too many open files" in engine.isolation.note
    assert len(open_descriptors()) == len(descriptors) + 1  # what holds the loopback's block
    assert networks(engine).own


def runner_name(runner: Runner) -> str:
    return "root" if AS_ROOT and "user" not in runner.engine.isolation.note else "user"


@at("proot")
def test_loopback_addresses_are_nobody_elses_and_hundreds_are_fine(
    networks: Callable[..., Network], runner: Runner
) -> None:
    made = [networks(runner.engine, tuple(f"n{number}" for number in range(count))) for count in (3, 3, 300)]
    addresses = [place.address for network in made for place in network.places]
    assert len(set(addresses)) == 306
    assert all(address.startswith("127.") for address in addresses)
    assert not any(network.own for network in made)
