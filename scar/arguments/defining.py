"""The flags that define a function, or change what a file says of it: each stands for one key of the definition language.

Data and argparse only. `scar.commands.given` makes a definition of what was typed, and the reader of definition files checks it, so a
flag has the same rules as its key.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["text", "number", "truth", "path", "list", "variables", "buckets"]


@dataclass(frozen=True, slots=True)
class Flag:
    """`key` is the path of the key below an item of `functions.aws`. SCAR 4 had all flags but those with `since_5`."""

    names: tuple[str, ...]
    key: str
    kind: Kind
    metavar: str
    help: str
    choices: tuple[str, ...] = ()
    since_5: bool = False

    @property
    def name(self) -> str:
        return self.names[-1]

    @property
    def dest(self) -> str:
        return self.name.lstrip("-").replace("-", "_")


FLAGS: Final = (
    Flag(("-i", "--image"), "lambda.container.image", "text", "IMAGE", "the image, as `docker pull` takes it"),
    Flag(
        ("-if", "--image-file"), "lambda.container.image_file", "path", "FILE",
        "the image on disk: what `docker save` wrote, an OCI archive or an OCI layout",
    ),
    Flag(("-s", "--init-script"), "lambda.init_script", "path", "FILE", "the script that runs in the container for every event"),
    Flag(
        ("-e", "--environment"), "lambda.container.environment", "variables", "NAME[=VALUE]",
        "a variable for the script, without a value the one of your own environment; may be given several times",
    ),
    Flag(
        ("-le", "--lambda-environment"), "lambda.environment", "variables", "NAME[=VALUE]",
        "a variable of the Lambda function; may be given several times",
    ),
    Flag(("-m", "--memory"), "lambda.memory", "number", "MIB", "memory of the function, in MiB"),
    Flag(("-t", "--timeout"), "lambda.timeout", "number", "SECONDS", "the longest that one run may take, in seconds"),
    Flag(
        ("-tt", "--timeout-threshold"), "lambda.container.timeout_threshold", "number", "SECONDS",
        "kept back of the timeout for uploads and the reply",
    ),
    Flag(
        ("-em", "--execution-mode"), "lambda.execution_mode", "text", "MODE",
        "where runs happen: lambda, lambda-batch or batch",
    ),
    Flag(
        ("-ib", "--input-bucket"), "lambda.input", "buckets", "BUCKET[/FOLDER]",
        "a new file here starts a run; may be given several times",
    ),
    Flag(
        ("-ob", "--output-bucket"), "lambda.output", "buckets", "BUCKET[/FOLDER]",
        "where the files of a run go; may be given several times",
    ),
    Flag(("-d", "--description"), "lambda.description", "text", "TEXT", "a line about the function"),
    Flag(("-r", "--iam-role"), "iam.role", "text", "ARN", "the role of the function (default: SCAR makes one)"),
    Flag(("-ll", "--log-level"), "lambda.log_level", "text", "LEVEL", "how much the agent writes to the log"),
    Flag(("-rt", "--runtime"), "lambda.runtime", "text", "NAME", "how the container reaches Lambda: image, or python3.x for a zip"),
    Flag(("-l", "--layers"), "lambda.layers", "list", "ARN", "a Lambda layer, for a zip runtime; may be given several times"),
    Flag(
        ("-ep", "--extra-payload"), "lambda.extra_payload", "path", "PATH",
        "a folder or file to ship with a zip function, found in $SCAR_PAYLOAD_DIR",
    ),
    Flag(
        ("-db", "--deployment-bucket"), "lambda.deployment.bucket", "text", "BUCKET",
        "where the code of a zip function is uploaded to",
    ),
    Flag(("-ph", "--preheat"), "lambda.preheat", "truth", "", "run the function once when it is made"),
    Flag(("-api", "--api-gateway-name"), "api_gateway.name", "text", "NAME", "make an HTTP endpoint in API Gateway, of this name"),
    Flag(
        ("--api-auth",), "api_gateway.auth", "text", "iam|none|api_key",
        "who may call that endpoint: whoever IAM lets (default), everyone, or who sends the API key", since_5=True,
    ),
    Flag(
        ("--function-url",), "function_url.auth", "text", "iam|none",
        "make a function URL, for whoever IAM lets or for everyone", since_5=True,
    ),
    Flag(("-bm", "--batch-memory"), "batch.memory", "number", "MIB", "memory of a job, in MiB"),
    Flag(("-bc", "--batch-vcpus"), "batch.vcpus", "text", "COUNT", "vCPUs of a job"),
    Flag(("-g", "--enable-gpu"), "batch.enable_gpu", "truth", "", "give a job a GPU"),
    Flag(
        ("-sv", "--supervisor-version"), "lambda.supervisor.version", "text", "VERSION",
        "has no effect: SCAR always installs the agent that it was released with",
    ),
)  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own. What was not given is None."""
    group = parser.add_argument_group("the function, if not (only) the file is to say it")
    for flag in FLAGS:
        how: dict[str, Any] = {"dest": flag.dest, "default": None, "help": flag.help.replace("%", "%%")}
        if flag.kind == "truth":
            group.add_argument(*flag.names, action="store_const", const=True, **how)
        else:
            several = flag.kind in {"list", "variables", "buckets"}
            group.add_argument(*flag.names, action="append" if several else "store", metavar=flag.metavar, **how)


def given(args: argparse.Namespace) -> list[tuple[Flag, Any]]:
    """The flags of this command line, with what was said. A command that has none of them has said nothing."""
    values = vars(args)
    return [(flag, value) for flag in FLAGS if (value := values.get(flag.dest)) is not None]


def typed(args: argparse.Namespace) -> list[str]:
    """The flags as they were typed, for a sentence that repeats the command."""
    words: list[str] = []
    for flag, value in given(args):
        if flag.kind == "truth":
            words.append(flag.names[0])
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [flag.names[0], str(one)]
    return words


def definition(parser: argparse.ArgumentParser) -> None:
    """`-f`, `-n` and the flags: one or both of a file and flags."""
    parser.add_argument("-f", "--conf-file", type=Path, metavar="FILE", help="the definition file")
    parser.add_argument("-n", "--name", help="the function's name; with -f only this function of the file")
    add(parser)
