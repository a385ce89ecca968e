"""Derived images: how fast, with how many bytes and how much memory, side by side with `skopeo copy` and `buildah`.

    python benchmarks/images.py [--quick]        a base of 500 MiB; results go to benchmarks/results/images.{json,md}

Registries are Debian's docker-registry on loopback, a fresh one for each first push. Everything is made in a temporary folder.
Needs docker-registry and skopeo; buildah (as root) where it is installed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import run
from figures import MIB, ROOT, Figure, Result
from measuring import Cost, cost, in_turns, median, together
from surroundings import Size

REPEAT = 3

DERIVE = """
import json, sys, time
from pathlib import Path
started = time.perf_counter()
from faassupervisor.contract import Spec
from scar.package.agent import agent_layer
from scar.package.registry.credentials import Credentials
from scar.package.derive import derive
from scar.package.registry import Registry
from scar.package.sightings import Sightings
from scar.package.source import open_image
cache, source, host, repository, script = Path(sys.argv[1]), *sys.argv[2:6]
login = Credentials("bob", "secret")
loaded = time.perf_counter()
agent = agent_layer(cache=cache)
made = time.perf_counter()
base = open_image(source, None, architecture="x86_64", cache=cache, keychain=lambda host: login)
image = derive(base, agent, spec=Spec("bench"), script=script.encode())
result = Sightings(cache, host).push(image, Registry(host, login), repository)
done = time.perf_counter()
print(json.dumps({"sent": result.bytes_sent, "mounted": result.bytes_mounted, "digest": result.digest,
                  "imports_s": loaded - started, "agent_s": made - loaded, "registry_s": done - made}))
"""


def base_image(folder: Path, mib: int) -> Any:
    """Layers of two fifths, three tenths, a fifth, and the rest: noise that does not compress and text that does, always the same."""
    from scar.package.derive import assemble
    from scar.package.layer import Directory, File, file_layer, write_layer

    noise = random.Random(500)
    text = (" ".join(str(number) for number in range(200_000)) + "\n").encode()
    layers = []
    for n, share in enumerate((0.4, 0.3, 0.2, 0.08, 0.02)):
        sizes = [round(share * mib / 4 * MIB)] * 4
        files = [
            File(f"data/{n}/{m}", noise.randbytes(size) + text * (size // len(text) // 4))
            for m, size in enumerate(sizes)
        ]
        path = folder / f"layer-{n}"
        with path.open("wb") as out:
            layers.append(file_layer(path, write_layer([Directory("data"), Directory(f"data/{n}"), *files], out)))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    return assemble(config, layers)


class Bench:
    def __init__(self, folder: Path, stack: ExitStack, size: Size) -> None:
        from tests.support.registries import RunningRegistry, TokenServer, start_registry

        self.folder, self.size, self._stack, self._number = folder, size, stack, 0
        self._tokens = TokenServer(self.fresh("tokens"))
        stack.callback(self._tokens.close)
        self.source: RunningRegistry = start_registry(self.fresh("source"))
        stack.callback(self.source.stop)
        self.cache = self.fresh("cache")
        self.base = f"{self.source.host}/base:1"

    def fresh(self, name: str) -> Path:
        self._number += 1
        folder = self.folder / f"{name}-{self._number}"
        folder.mkdir()
        return folder

    def destination(self) -> str:
        """The host of an empty registry that takes tokens only."""
        from tests.support.registries import start_token_registry

        registry = start_token_registry(self.fresh("registry"), self._tokens)
        self._stack.callback(registry.stop)
        return registry.host

    def derive(self, host: str, repository: str, script: str, *, source: str | None = None) -> Cost:
        argv = [str(self.cache), source or self.base, host, repository, script]
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'faas-supervisor'}"}
        return cost(sys.executable, "-c", DERIVE, *argv, environ=environ)

    def skopeo(self, host: str, repository: str, *, source: str | None = None) -> Cost:
        return cost(
            "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds=bob:secret",
            "--dest-creds=bob:secret", f"docker://{source or self.base}", f"docker://{host}/{repository}:1",
        )  # fmt: skip

    def buildah(self, host: str, repository: str) -> Cost:
        """The same result as ours by Debian's builder: a copy of the base in its own store, one more layer, pushed."""
        store = self.fresh("buildah")
        script = store / "script"
        script.write_text("#!/bin/sh\n")
        root = ["buildah", "--storage-driver=vfs", f"--root={store / 'root'}", f"--runroot={store / 'run'}"]
        costs = [cost(*root, "from", "--tls-verify=false", "--name=work", f"docker://{self.base}")]
        costs.append(cost(*root, "copy", "work", str(script), "/opt/script"))
        costs.append(cost(*root, "config", '--entrypoint=["/opt/script"]', "work"))
        costs.append(cost(*root, "commit", "-q", "--disable-compression=false", "work", "derived"))
        costs.append(
            cost(*root, "push", "-q", "--tls-verify=false", "--creds=bob:secret", "derived", f"docker://{host}/{repository}:1")
        )  # fmt: skip
        shutil.rmtree(store, ignore_errors=True)
        return together(costs)


def alternately(bench: Bench, ours: Callable[[], Cost], theirs: Callable[[], Cost], rounds: int) -> tuple[Cost, Cost]:
    """Medians of runs that take turns, so that the machine's moods meet both."""
    costs = in_turns({"ours": ours, "theirs": theirs}, bench.size.of(rounds, 1))
    return median(costs["ours"]), median(costs["theirs"])


def figures(bench: Bench, mib: int) -> Iterator[Figure]:
    def told(run: Cost) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(run.output.splitlines()[-1])
        return document

    bench.derive(bench.source.host, "warm-up", "exit 0")  # the agent's layer is made and cached; pages are warm
    size = f"{mib} MiB base"
    ours, theirs = alternately(
        bench,
        lambda: bench.derive(bench.destination(), "fn", "exit 0"),
        lambda: bench.skopeo(bench.destination(), "fn"),
        REPEAT,
    )
    yield Figure(
        f"{size}: derive + push to another registry", ours.seconds, "s", "skopeo copy", theirs.seconds, "≤ 1.0"
    )
    yield Figure("  memory", ours.peak_mib, "MiB", "skopeo copy", theirs.peak_mib, "≤ 60 MiB")
    yield Figure("  processor time", ours.cpu_s, "s", "skopeo copy", theirs.cpu_s)
    yield Figure("  sent", told(ours)["sent"] / MIB, "MiB")
    if shutil.which("buildah"):
        built = bench.buildah(bench.destination(), "fn")
        yield Figure("  time", ours.seconds, "s", "buildah", built.seconds)
        yield Figure("  memory", ours.peak_mib, "MiB", "buildah", built.peak_mib)

    host = bench.destination()
    bench.derive(host, "fn", "exit 0")
    bench.skopeo(host, "copy")
    ours, theirs = alternately(bench, lambda: bench.derive(host, "fn", "exit 0"), lambda: bench.skopeo(host, "copy"), 7)
    yield from small("again", ours, theirs, told(ours))
    scripts = iter(range(100))
    ours, theirs = alternately(
        bench, lambda: bench.derive(host, "fn", f"exit {next(scripts)}"), lambda: bench.skopeo(host, "copy"), 7
    )
    yield from small("a changed script", ours, theirs, told(ours))
    source, names = f"{host}/copy:1", iter(range(100))
    bench.derive(host, "fn", "exit 0")
    ours, theirs = alternately(
        bench,
        lambda: bench.derive(host, f"fn-{next(names)}", "exit 0", source=source),
        lambda: bench.skopeo(host, f"copy-{next(names)}", source=source),
        7,
    )
    yield from small("to another repository of the same registry (mounted)", ours, theirs, told(ours))


def small(what: str, ours: Cost, theirs: Cost, told: dict[str, Any]) -> Iterator[Figure]:
    yield Figure(f"{what}: whole process", ours.seconds, "s", "skopeo copy", theirs.seconds)
    yield Figure("  at the registries", told["registry_s"], "s", goal="≤ 0.2 s")
    yield Figure("  memory", ours.peak_mib, "MiB", "skopeo copy", theirs.peak_mib, "≤ 60 MiB")
    yield Figure("  sent", told["sent"] / 1024, "KiB")


def measure(size: Size) -> Result:
    from scar.package.registry import Registry
    from scar.package.registry.push import push

    mib = size.of(500, 20)
    folder = Path(tempfile.mkdtemp(prefix="scar-bench-images-"))
    try:
        with ExitStack() as stack:
            bench = Bench(folder, stack, size)
            push(base_image(bench.fresh("base"), mib), Registry(bench.source.host), "base", tag="1")
            return Result(list(figures(bench, mib)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    run.alone("images")
