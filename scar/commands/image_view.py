"""What an inspection looks like: lines for a terminal, or a document. Pure; whatever an image says is other people's text."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from scar.report import plural, size

if TYPE_CHECKING:
    from faassupervisor.contract import ImageProcess, Spec, Storage
    from scar.package.inspecting import Inspection
    from scar.package.inspecting.verdict import Verdict

_LABEL: Final = 8  # with a digest's 71 characters a line has 79
_AGENT: Final = "SCAR's agent, with a Python of its own: it needs nothing of the image."


@dataclass(frozen=True, slots=True)
class Script:
    """A function's script: its name, and the words that start it (none: it is a program of its own)."""

    name: str
    interpreter: tuple[str, ...]


def script_of(name: str, head: bytes) -> Script:
    """By its first bytes, as the agent decides it."""
    if head.startswith(b"\x7fELF"):
        return Script(name, ())
    if not head.startswith(b"#!"):
        return Script(name, ("/bin/sh",))
    return Script(name, tuple(head[2:].split(b"\n", 1)[0].decode(errors="replace").strip().split(None, 1)))


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that is told of one image. `function` and `script` are those of a definition file, where one was named.

    `zip_why_not` is None where nobody looked; empty when a zip runtime can run the image. `missing` names a program that the image lacks.
    """

    found: Inspection
    verdict: Verdict
    function: str | None = None
    script: Script | None = None
    zip_why_not: tuple[str, ...] | None = None
    missing: str | None = None
    runtime: str = "image"


def document(shown: Shown) -> dict[str, Any]:
    """Names of environment variables only: their values may be secrets."""
    found, verdict = shown.found, shown.verdict
    process = found.process
    told: dict[str, Any] = {
        "image": found.name,
        "function": shown.function,
        "architecture": found.architecture,
        "digest": found.digest,
        "media_type": found.media_type or None,
        "index_digest": found.index_digest,
        "platforms": [
            {"platform": each.name, "digest": each.digest, "chosen": each.chosen} for each in found.platforms
        ],
        "size_bytes": found.size_bytes,
        "unpacked_bytes": found.unpacked_bytes if found.layers else None,
        "layers": [
            {
                "digest": layer.digest,
                "media_type": layer.media_type,
                "size_bytes": layer.size_bytes,
            }
            for layer in found.layers
        ],
        "process": None if process is None else _process_document(process),
        "runs": _runs_document(shown),
        "lambda": {"accepted": verdict.accepted, "why_not": verdict.why_not, "remarks": verdict.remarks},
        "derived": None,
    }
    if found.function is not None:
        told["derived"] = {"agent": found.function.agent, "function": _spec_document(found.function.spec)}
    if told["runs"] is not None and shown.missing is not None:
        told["runs"]["missing"] = shown.missing
    if shown.zip_why_not is not None:
        told["zip"] = {"accepted": not shown.zip_why_not, "why_not": shown.zip_why_not}
    return told


def _process_document(process: ImageProcess) -> dict[str, Any]:
    return {
        "entrypoint": process.entrypoint,
        "command": process.command,
        "user": process.user,
        "working_directory": process.working_directory,
        "environment": sorted(process.environment),
    }


def _spec_document(spec: Spec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    return {
        "name": spec.name,
        "mode": spec.mode,
        "has_script": spec.has_script,
        "inputs": [_place(item) for item in spec.inputs],
        "outputs": [_place(item) for item in spec.outputs],
        "process": _process_document(spec.image),
    }


def _place(item: Storage) -> str:
    path = f"{item.bucket}/{item.folder}".rstrip("/")
    return path if item.provider == "s3" else f"{item.provider}://{path}"


# -- what will run ----------------------------------------------------------------------------------------------


def _own_process(shown: Shown) -> ImageProcess | None:
    """The image's own: of a derived image, what it remembers of the one that it was made from."""
    derived = shown.found.function
    return shown.found.process if derived is None else derived.spec.image if derived.spec else None


def _runs_document(shown: Shown) -> dict[str, Any] | None:
    process = _own_process(shown)
    if process is None:
        return None
    first = {"first": "agent", "working_directory": process.working_directory or "/"}
    command = (*process.entrypoint, *process.command)
    if shown.script is not None:
        return {**first, "then": "script", "script": shown.script.name, "words": shown.script.interpreter}
    derived = shown.found.function
    if derived is not None and derived.spec is not None and derived.spec.has_script:
        return {**first, "then": "script", "words": None}
    if shown.function is None and derived is None:
        return {**first, "then": "script or command", "words": command}
    return {**first, "then": "command" if command else "nothing", "words": command}


def _runs(shown: Shown) -> list[str]:
    told = _runs_document(shown)
    if told is None:
        return []
    words, where = _words(told["words"] or ()), f" in {told['working_directory']}"
    lacking = [f"but {shown.missing}"] if shown.missing else []
    match told["then"]:
        case "script" if shown.script is not None:
            by = f", by {' '.join(shown.script.interpreter)}" if shown.script.interpreter else ", a program of its own"
            then = [f"then {told['script']}{by},{where}"]
        case "script":
            then = [f"then the function's script{where}"]
        case "command":
            then = [f"then the image's own command {words}{where}"]
        case "nothing":
            then = ["then nothing: there is no script, and the image has no command"]
        case _:
            own = f"without one: {words}{where}" if words != "[]" else "without one: nothing, the image has no command"
            then = ["then the function's script, by the interpreter of its #! line, else /bin/sh", own]
    return [_AGENT, *then, *lacking]


# -- lines ------------------------------------------------------------------------------------------------------


def lines(shown: Shown, width: int) -> Iterator[str]:
    """A label and its values, wrapped; a digest is never broken."""
    for label, values in _fields(shown):
        parts = [part for value in values for part in _wrapped(_one_line(value), max(width - _LABEL, 20))]
        yield from (f"{'' if number else label:<{_LABEL}}{part}" for number, part in enumerate(parts))


def _wrapped(text: str, room: int) -> list[str]:
    return [text] if " " not in text else textwrap.wrap(text, room, break_on_hyphens=False)


def _fields(shown: Shown) -> Iterator[tuple[str, Sequence[str]]]:
    found = shown.found
    yield "image", [found.name]
    if shown.function:
        yield "of", [f"function {shown.function}"]
    if found.digest:
        yield "digest", [found.digest]
    if found.index_digest:
        yield "index", [found.index_digest]
    yield "for", [", ".join(f"{each.name} *" if each.chosen else each.name for each in found.platforms)]
    if found.layers:
        yield "size", [_size(found)]
        yield "layers", _layers(found)
    if found.function is not None:
        yield "derived", _derived(found.function.agent, found.function.spec)
    process = _own_process(shown)
    if process is not None:
        yield "process" if found.function is None else "its own", _process(process)
    yield "runs", _runs(shown)
    yield "Lambda", _judged(shown.verdict.why_not, "takes it")
    yield "", [f"- {remark}" for remark in shown.verdict.remarks]
    if shown.zip_why_not is not None:
        yield "zip", _judged(shown.zip_why_not, "a zip runtime (`runtime: python3.x`) can run it")
    elif shown.runtime != "image":
        yield "zip", [f"`runtime: {shown.runtime}`: --scan tells whether a zip can run it"]


def _judged(why_not: Sequence[str], good: str) -> list[str]:
    return [f"no: {why_not[0]}", *(f"and: {more}" for more in why_not[1:])] if why_not else [f"yes: {good}"]


def _size(found: Inspection) -> str:
    unpacked = (
        "unpacked not known (--scan tells)"
        if found.unpacked_bytes is None
        else f"{size(found.unpacked_bytes)} unpacked"
    )
    return f"{size(found.size_bytes)} in {plural(len(found.layers), 'layer')}, {unpacked}"


def _layers(found: Inspection) -> list[str]:
    """One line for each kind: a hundred layers are told in one."""
    kinds: dict[str, list[int]] = {}
    for layer in found.layers:
        kinds.setdefault(layer.media_type, []).append(layer.size_bytes)
    return [f"{len(sizes)} {kind}, {size(sum(sizes))}" for kind, sizes in kinds.items()]


def _derived(agent: str, spec: Spec | None) -> list[str]:
    if spec is None:
        return ["by SCAR; its spec cannot be read by this release", f"agent: {agent}"]
    places: Mapping[str, Sequence[Storage]] = {"input": spec.inputs, "output": spec.outputs}
    told = [f"{word}: {', '.join(map(_place, items))}" for word, items in places.items() if items]
    return [f"by SCAR, for function {spec.name} in mode {spec.mode}", *told, f"agent: {agent}"]


def _process(process: ImageProcess) -> list[str]:
    told = [f"ENTRYPOINT {_words(process.entrypoint)}", f"CMD {_words(process.command)}"]
    told.append(f"USER {process.user or '-'}, WORKDIR {process.working_directory or '/'}")
    return [*told, f"ENV {' '.join(sorted(process.environment))}"] if process.environment else told


def _words(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)


def _one_line(text: str) -> str:
    """Escapes are made visible by the report; a line break would forge a line of ours."""
    return text.replace("\n", "\\n").replace("\t", "\\t")
