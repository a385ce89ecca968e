"""The table: base images, what runs in each of them, and what has to come out, whatever the runtime.

`IMAGES` are run on an object: a script of ours or the image's own command reads it, writes it back in capitals (`shout`) and writes
down what it sees (`facts`). `DIRECT` are runs without an object: arguments, and every way to fail.
"""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tests.conformance import archives, programs, trees
from tests.conformance.archives import Image, Writer
from tests.conformance.packages import FOREIGN, NEW, OLD, STABLE
from tests.conformance.trees import Tree, folder, hard_link, link, program, tar_of, text

PATH: Final = "/usr/local/bin:/usr/bin:/bin"
MINE: Final = 'a "b" $c'
WORDS: Final = b"moo, said the cow\n"
KEY: Final = "in/hello world.txt"
NAMES: Final = (
    "GREETING",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "MINE",
    "PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "STORAGE_OBJECT_KEY",
)

_SHELL: Final = """\
fact() { printf '%s=%s\\n' "$1" "$2"; }
words=
for word in "$@"; do words="$words${words:+|}$word"; done
if [ -z "$INPUT_FILE_PATH" ]; then echo "given: $words"; exit; fi
{
    fact arguments "$words"
    fact cwd "$(pwd)"
    if [ -w "$HOME" ]; then fact home writable; else fact home no; fi
    fact input "${INPUT_FILE_PATH##*/}"
    fact runtime_api "$AWS_LAMBDA_RUNTIME_API"
    fact user "$(id -u):$(id -g)"
    for name in NAMES; do eval "fact $name \\"\\$$name\\""; done
} > "$TMP_OUTPUT_DIR/facts"
tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/shout"
echo "the probe ran"
""".replace("NAMES", " ".join(NAMES))

_PYTHON: Final = """\
import os, sys
environ, out = os.environ, os.environ["TMP_OUTPUT_DIR"]
seen = {"arguments": "|".join(sys.argv[1:]), "cwd": os.getcwd(), "home": "writable" if os.access(environ["HOME"], os.W_OK) else "no",
        "input": os.path.basename(environ["INPUT_FILE_PATH"]), "runtime_api": environ.get("AWS_LAMBDA_RUNTIME_API", ""),
        "user": "%d:%d" % (os.getuid(), os.getgid())}
seen.update((name, environ.get(name, "")) for name in NAMES)
open(out + "/facts", "w").writelines("%s=%s\\n" % pair for pair in seen.items())
open(out + "/shout", "w").write(open(environ["INPUT_FILE_PATH"]).read().upper())
print("the probe ran")
""".replace("NAMES", repr(NAMES))

_PERL: Final = """\
use strict;
my $out = $ENV{TMP_OUTPUT_DIR};
my ($input) = $ENV{INPUT_FILE_PATH} =~ m{([^/]*)$};
open(my $facts, ">", "$out/facts") or die;
require Cwd;
print $facts "arguments=", join("|", @ARGV), "\\ncwd=", Cwd::getcwd(), "\\nhome=", (-w $ENV{HOME} ? "writable" : "no"), "\\n";
print $facts "input=$input\\nruntime_api=", ($ENV{AWS_LAMBDA_RUNTIME_API} // ""), "\\nuser=$<:", $( + 0, "\\n";
print $facts "$_=", ($ENV{$_} // ""), "\\n" for qw(NAMES);
open(my $in, "<", $ENV{INPUT_FILE_PATH}) or die;
open(my $shout, ">", "$out/shout") or die;
print $shout uc while <$in>;
print "the probe ran\\n";
""".replace("NAMES", " ".join(NAMES))

SHELL: Final = f"#!/bin/sh\n{_SHELL}"


class Parts:
    """The layers that images share, made once; `out` is a folder for compiled programs."""

    def __init__(self, out: Path) -> None:
        self._out = out

    @cached_property
    def debian11(self) -> bytes:
        return tar_of(trees.debian(OLD, merged=None))

    @cached_property
    def debian12(self) -> bytes:
        return tar_of(trees.debian(STABLE, merged=""))

    @cached_property
    def debian12_absolute(self) -> bytes:
        return tar_of(trees.debian(STABLE, merged="/"))

    @cached_property
    def debian13(self) -> bytes:
        return tar_of(trees.debian(NEW, merged=""))

    @cached_property
    def busybox(self) -> bytes:
        return tar_of(trees.busybox())

    @cached_property
    def static_probe(self) -> bytes:
        return programs.static_probe(self._out)

    @cached_property
    def musl_probe(self) -> bytes:
        return programs.musl_probe(self._out)

    @cached_property
    def glibc_probe(self) -> bytes:
        return programs.glibc_probe(self._out)

    @cached_property
    def mark_library(self) -> bytes:
        return programs.mark_library(self._out)


Layers = Callable[[Parts], Sequence[bytes]]


@dataclass(frozen=True)
class Case:
    """One image and its function. `facts` are what must be seen, over those of every case; `more` are outputs besides.

    `user` is the image's USER as numbers, honoured where the container starts as root. `not_in_zip` are words that the refusal of the
    zip runtime must hold. `path` None: the image sets none, and each runtime has its own. `outside_lambda`: why Lambda cannot run it.
    """

    name: str
    layers: Layers
    settings: Mapping[str, Any] = field(default_factory=dict)
    write: Writer = archives.oci_layout
    script: str | None = SHELL
    facts: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, bytes] = field(default_factory=dict)
    user: str = "0:0"
    path: str | None = PATH
    not_in_zip: tuple[str, ...] = ()
    outside_lambda: str = ""
    architecture: str = "amd64"

    @property
    def function(self) -> str:
        return f"base-{self.name.replace('_', '-')}"

    @property
    def zip_function(self) -> str:
        return f"zip-{self.name.replace('_', '-')}"

    def image(self, parts: Parts) -> Image:
        environment = [*([f"PATH={self.path}"] if self.path else []), "GREETING=hello from the image"]
        environment = [item for item in environment if item.split("=")[0] not in self._own_variables]
        return Image(
            self.layers(parts),
            {**self.settings, "Env": [*environment, *self.settings.get("Env", ())]},
            self.architecture,
        )

    def definition(self, name: str, file: Path, bucket: str, **more: Any) -> dict[str, Any]:
        """A function of this image, as a definition file has it."""
        script = {} if self.script is None else {"init_script": f"{self.name}.script"}
        container = {"image_file": str(file), "environment": {"Variables": {"MINE": MINE}}}
        output = [{"path": f"{bucket}/{name}"}]
        return {"name": name, "memory": 512, "timeout": 60, **script, "container": container, "output": output, **more}

    @property
    def _own_variables(self) -> set[str]:
        return {item.split("=")[0] for item in self.settings.get("Env", ())}

    @property
    def expected(self) -> dict[str, str]:
        """The facts, the user left out."""
        common = {
            "arguments": "",
            "cwd": self.settings.get("WorkingDir", "private"),
            "home": "writable",
            "input": KEY.rsplit("/", 1)[-1],
            "runtime_api": "",
            **dict.fromkeys(NAMES, ""),
            "GREETING": "hello from the image",
            "MINE": MINE,
            "PATH": self.path or "its own",
            "STORAGE_OBJECT_KEY": KEY,
        }
        return common | self.facts


def _plus(base: str, tree: Tree) -> Layers:
    return lambda parts: (getattr(parts, base), tar_of(tree))


def _only(tree: Callable[[Parts], Tree]) -> Layers:
    return lambda parts: (tar_of(tree(parts)),)


_STATIC: Final = ("/bin/busybox (static)",)
_ENTRY: Final = {"entry.sh": program(SHELL)}
_WHITEOUTS: Final = (
    {
        "data/gone": text("gone"),
        "data/kept": text("kept"),
        "data/emptied/old": text("old"),
        "data/linked": hard_link("data/kept"),
    },
    {"data/.wh.gone": text(""), "data/emptied/.wh..wh..opq": text(""), "data/emptied/new": text("new")},
    {"data/replaced": folder(), "data/replaced/by": text("a folder")},
    {"data/replaced": text("a file"), "data/link": link("/data/kept")},
)
_LOOK_AROUND: Final = """
{
    for path in /data/* /data/emptied/*; do [ -d "$path" ] || printf '%s %s\\n' "$path" "$(cat "$path")"; done
} > "$TMP_OUTPUT_DIR/data"
"""
_LOOKED: Final = b"/data/kept kept\n/data/link kept\n/data/linked kept\n/data/replaced a file\n/data/emptied/new new\n"
_MAPPED: Final = """
mapped=no
while read -r line; do case "$line" in *libmark.so*) mapped=yes ;; esac; done < /proc/self/maps
echo "$mapped" > "$TMP_OUTPUT_DIR/mapped"
"""
_LIBRARY: Final = "/usr/lib/mine"

IMAGES: Final = (
    # Debian of three ages: the C library of the image is older and newer than the agent's.
    Case("debian12", lambda parts: (parts.debian12, tar_of(trees.bash())), {"Cmd": ["/bin/bash"]}, script=f"#!/bin/bash -e\n{_SHELL}"),
    Case("debian11_old_glibc", lambda parts: (parts.debian11,), {"Cmd": ["/bin/sh"]}, archives.docker_save),
    Case("debian13_new_glibc", lambda parts: (parts.debian13,), {"WorkingDir": "/"}, archives.oci_archive),
    Case(
        "python",
        lambda parts: (parts.debian12, tar_of(trees.python()), tar_of({"opt/mine/greeting.py": text("WORD = 'of my own'\n")})),
        {"Env": ["PYTHONPATH=/opt/mine", "PYTHONHOME=/usr"], "Cmd": ["python3"]},
        archives.docker_schema_2,
        script=f"#!/usr/bin/env python3\n{_PYTHON}import greeting\nopen(out + '/word', 'w').write(greeting.WORD + sys.prefix)\n",
        facts={"PYTHONPATH": "/opt/mine", "PYTHONHOME": "/usr"},
        more={"word": b"of my own/usr"},
    ),
    Case("perl", lambda parts: (parts.debian12, tar_of(trees.perl())), script=f"#!/usr/bin/perl -w\n{_PERL}"),
    # Other C libraries, and none.
    Case(
        "musl",
        lambda parts: (parts.busybox, tar_of({**trees.musl(), "usr/bin/probe": program(parts.musl_probe)})),
        {"Cmd": ["/bin/sh"], "WorkingDir": "/tmp"},
        script="#!/bin/sh\nexec probe from musl\n",
        facts={"arguments": "from|musl"},
        not_in_zip=("/usr/bin/probe (musl)", "/bin/busybox (static)"),
    ),
    Case("busybox", lambda parts: (parts.busybox,), not_in_zip=_STATIC),
    Case(
        "scratch_static",
        _only(lambda parts: {"probe": program(parts.static_probe, 0o111)}),
        {"Entrypoint": ["/probe"]},
        archives.oci_archive,
        script=None,
        path=None,
        not_in_zip=("/probe (static)",),
    ),
    Case(
        "distroless",
        _only(lambda parts: {**trees.glibc(), "app/probe": program(parts.glibc_probe)}),
        {"Entrypoint": ["/app/probe"], "Cmd": ["serve"], "User": "65532", "WorkingDir": "/app"},
        script=None,
        facts={"arguments": "serve"},
        user="65532:65532",
    ),
    # What the image says about its process.
    Case(
        "entrypoint",
        _plus("debian12", _ENTRY),
        {"Entrypoint": ["/entry.sh"]},
        script=None,
    ),
    Case(
        "entrypoint_and_cmd",
        _plus("debian12", _ENTRY),
        {"Entrypoint": ["/bin/sh", "/entry.sh"], "Cmd": ["one", "two words", "*"]},
        archives.platforms,
        script=None,
        facts={"arguments": "one|two words|*"},
    ),
    Case(
        "cmd_in_shell_form",
        _plus("debian11", _ENTRY),
        {"Cmd": ["/bin/sh", "-c", "GREETING=changed exec /entry.sh from 'the shell'"]},
        archives.zstd_layers,
        script=None,
        facts={"arguments": "from|the shell", "GREETING": "changed"},
    ),
    Case(
        "script_beats_entrypoint",
        _plus("debian12", _ENTRY),
        {"Entrypoint": ["/bin/sh", "-c", "exit 9"], "Cmd": ["not me"]},
    ),
    Case("user_by_number", _plus("debian12", {}), {"User": "1234:5678"}, user="1234:5678"),
    Case("user_by_name", _plus("debian12", {}), {"User": "worker"}, user="4321:8765"),
    Case(
        "workdir",
        _plus("debian12", {"srv/data/in put/here": text("here\n")}),
        {"WorkingDir": "/srv/data/in put"},
        script=f"{SHELL}cat here > $TMP_OUTPUT_DIR/here\n",
        more={"here": b"here\n"},
    ),
    Case("path_of_its_own", _plus("debian12", {"odd/bin/tool": program("#!/bin/sh\necho tool\n")}), script=f"{SHELL}tool > $TMP_OUTPUT_DIR/tool\n", path="/odd/bin:/bin:relative", more={"tool": b"tool\n"}),
    # An image that turns on what would break the agent's own interpreter.
    Case(
        "environment",
        lambda parts: (parts.debian12, tar_of({f"{_LIBRARY[1:]}/libmark.so": program(parts.mark_library)})),
        {
            "Env": [
                f"LD_PRELOAD={_LIBRARY}/libmark.so",
                f"LD_LIBRARY_PATH={_LIBRARY}",
                "PYTHONHOME=/nowhere",
                "PYTHONPATH=/nowhere/else",
                "GREETING=a=b=c",
            ]
        },
        archives.docker_save,
        script=SHELL + _MAPPED,
        facts={
            "LD_PRELOAD": f"{_LIBRARY}/libmark.so",
            "LD_LIBRARY_PATH": _LIBRARY,
            "PYTHONHOME": "/nowhere",
            "PYTHONPATH": "/nowhere/else",
            "GREETING": "a=b=c",
        },
        more={"mapped": b"yes\n"},
    ),
    # File systems that are not as one would think.
    Case("links_from_the_root", lambda parts: (parts.debian12_absolute,)),
    Case("nothing_writable", _plus("debian12", {"srv": folder(0o555), "srv/file": text("mine\n", 0o444), "home": folder(0o555)}), {"WorkingDir": "/srv"}),
    Case("opt_is_a_link", _plus("busybox", {"srv/opt/mine": text("mine\n"), "opt": link("srv/opt")}), script=SHELL, not_in_zip=_STATIC),
    Case(
        "opt_scar_is_taken",
        _plus(
            "busybox",
            {
                "opt/scar/app/json/__init__.py": text("raise SystemExit(77)\n"),
                "opt/scar/app/os.py": text("raise SystemExit(78)\n"),
                "opt/scar/bin/python3": program("#!/bin/sh\nexit 79\n"),
                "opt/scar/function": link("/etc"),
            },
        ),
        not_in_zip=_STATIC,
    ),
    Case(
        "opt_is_closed",
        _plus("busybox", {"opt": folder(0o700)}),
        not_in_zip=_STATIC,
        outside_lambda="the image closes /opt to everybody but root, and Lambda's user is not root",
    ),
    Case(
        "neither_tmp_nor_etc",
        _only(lambda parts: {path: entry for path, entry in trees.busybox().items() if path != "tmp"}),
        not_in_zip=_STATIC,
    ),
    Case(
        "layers_that_take_away",
        lambda parts: (parts.debian12, *(tar_of(tree) for tree in _WHITEOUTS)),
        write=archives.oci_archive,
        script=SHELL + _LOOK_AROUND,
        more={"data": _LOOKED},
    ),
)  # fmt: skip

# For another processor: the agent is that processor's too.
# All images run as root. As an ordinary user, what can depend on that: whose an image's files are, and what its sandbox is made of.
AS_USER: Final = (
    "debian12", "debian11_old_glibc", "debian13_new_glibc", "python", "musl", "busybox", "scratch_static", "distroless",
    "entrypoint_and_cmd", "user_by_name", "environment", "nothing_writable", "neither_tmp_nor_etc",
)  # fmt: skip
ZIP_AS_USER: Final = ("debian12", "debian11_old_glibc", "python", "user_by_name", "environment", "nothing_writable")
HERE: Final = tuple(case for case in IMAGES if os.geteuid() == 0 or case.name in AS_USER)
ZIPS_HERE: Final = tuple(
    case for case in HERE if not case.not_in_zip and (os.geteuid() == 0 or case.name in ZIP_AS_USER)
)

FOREIGN_IMAGE: Final = Case("arm64_busybox", lambda parts: (tar_of(trees.busybox(FOREIGN)),), architecture="arm64")


@dataclass(frozen=True)
class Direct:
    """A run that somebody asks for: `{}`, arguments, or a script of the moment. `kind` None: it succeeds."""

    name: str
    image: str
    payload: Mapping[str, Any]
    exit_code: int = 0
    kind: str | None = "ScriptFailed"
    says: str = ""
    published: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def event(self) -> bytes:
        return json.dumps(self.payload).encode()


def _script(source: str | bytes) -> dict[str, str]:
    return {"script": base64.b64encode(source.encode() if isinstance(source, str) else source).decode()}


def _elf_for(machine: int) -> bytes:
    """The header of a program for another machine."""
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    return identity + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0) + bytes(56)


_WRITES: Final = 'echo done > "$TMP_OUTPUT_DIR/result"\n'

DIRECT: Final = (
    Direct("arguments_replace_cmd", "cmd_in_shell_form", {"cmd_args": ["/bin/echo", "a  b", "$PATH"]}, kind=None, says="a  b $PATH"),
    Direct("arguments_follow_entrypoint", "entrypoint_and_cmd", {"cmd_args": ["again", "and again"]}, kind=None, says="given: again|and again"),
    Direct("a_script_that_starts_a_script", "entrypoint", _script("/entry.sh 'a b' c; exec /entry.sh d e f"), kind=None, says="given: a b|c\ngiven: d|e|f\n"),
    Direct("a_script_of_the_moment", "debian12", _script(f"#!/bin/sh\n{_WRITES}echo \"$GREETING\"\n"), kind=None, says="hello from the image", published={"result": b"done\n"}),
    Direct("a_script_without_a_first_line", "busybox", _script(_WRITES), kind=None, published={"result": b"done\n"}),
    Direct("outputs_in_folders", "debian11_old_glibc", _script('mkdir -p $TMP_OUTPUT_DIR/a/b; echo 1 > "$TMP_OUTPUT_DIR/a/b/with space"'), kind=None, published={"a/b/with space": b"1\n"}),
    Direct("exit_3", "debian12", _script("#!/bin/bash\nexit 3\n"), 3, says="exited with code 3"),
    Direct("exit_255", "debian13_new_glibc", _script("exit 255"), 255),
    Direct("killed", "debian12", _script("kill -9 $$"), 137, says="killed by SIGKILL"),
    Direct("crashed", "debian11_old_glibc", _script("kill -SEGV $$"), 139, says="killed by SIGSEGV"),
    Direct("no_interpreter", "debian12", _script("#!/usr/bin/ruby\nputs 1\n"), 127, says="/usr/bin/ruby"),
    Direct("no_shell", "distroless", _script("#!/bin/sh\nexit 0\n"), 127, says="/bin/sh"),
    Direct("no_command_inside", "debian12", _script("surely-not-there"), 127),
    Direct("interpreter_that_cannot_run", "debian12", _script("#!/etc/passwd\n"), 126, says="/etc/passwd"),
    Direct("a_program_for_another_machine", "debian12", _script(_elf_for(183)), 126, says="cannot be"),
    Direct("half_an_output", "debian12", _script(f"{_WRITES}exit 1"), 1),
    Direct("half_an_output_of_a_killed_one", "perl", _script("#!/usr/bin/perl\nopen(my $f, '>', \"$ENV{TMP_OUTPUT_DIR}/result\"); print $f 'half'; close $f; kill 'TERM', $$; sleep 5;\n"), 143, says="killed by SIGTERM"),
)  # fmt: skip


def object_event(bucket: str) -> bytes:
    """What S3 sends when the object has appeared."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-01-02T03:04:05.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": KEY.replace(" ", "+"), "size": len(WORDS), "sequencer": "0055AED6DCD90281E5"},
        },
    }
    return json.dumps({"Records": [record]}).encode()
