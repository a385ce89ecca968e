"""The reference page of the definition language, generated from the model: `python -m scar.fdl.reference > docs/reference/fdl.md`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any, Final

from scar.fdl.key import Field, Form, Names, OneOf, Pattern, Range, Shape, keys_of
from scar.fdl.model import File

INTRODUCTION: Final = """\
# Function definitions

A definition file says which functions there are, what runs in them, and which buckets start them. This page is generated from
the same model that checks the files, so it is complete: a key that is not here is an error. `scar schema` prints the same as a
JSON Schema for editors, and `scar validate -f FILE` checks a file without touching AWS.

```yaml
functions:
  aws:
    - lambda:
        name: grayify
        memory: 1024
        init_script: grayify.sh
        container:
          image: debian:12
        input:
          - path: photos/in
        output:
          - path: photos/gray
            suffix: [.jpg, .png]
```

## How files are read

- YAML 1.2, UTF-8, one document, at most 1 MiB. Only `true` and `false` are truth values: `yes`, `no`, `on` and `off` are text.
- `null` (or nothing after the colon) means the same as leaving the key out.
- A key that is written twice is an error. Anchors, aliases and `<<` work, up to 20000 values in all and 64 levels.
- Tags other than YAML's core ones are refused, and nothing in a file is ever expanded or executed: `${HOME}` stays `${HOME}`. There is one exception, made for
  credentials: in the tables that say *`${env.NAME}`*, that stands for a variable of the environment that SCAR was started with, and
  `$${` for `${` itself. One that is not set is a problem.
- Text that looks like a number needs quotes (`name: "123"`), except where a table says *as written*.
- Paths are resolved against the folder of the definition file.
- All problems of a file are told at once, each with its line, column and key path, and what to do.

## What keys demand of each other

- A container has exactly one of `image` and `image_file`; a path in `image` (`oci:folder:tag`) starts, as all paths do, at this file's folder.
- With `create_image: false` the image is in a private ECR repository, as `ACCOUNT.dkr.ecr.REGION.amazonaws.com/name:tag`.
- Scripts and images on disk exist and may be read; a script has at most 16 MiB.
- A `container.timeout_threshold` that is written is less than `timeout`.
- Jobs fit their machines: `batch.vcpus` is at most `max_v_cpus`, `min_v_cpus` too, and `desired_v_cpus` lies between the two; on Fargate the pair of
  `vcpus` and `memory` is one that AWS has, and nothing is said of machines, which one never sees there; a GPU needs `instance_types` that have some;
  instance types are of the function's architecture. With `type: UNMANAGED` there are no `compute_resources`, and a `service_role`.
- Jobs of several nodes (`batch.multi_node_parallel`) are for `execution_mode: batch` on machines of type `EC2`: neither Spot nor
  Fargate nor UNMANAGED. `main_node_index` and every range lie within the nodes; with the main node alone in one, the nodes fall into at most 5
  ranges that are alike; and `max_v_cpus`, if written, has room for all nodes at once. Subnets of a cluster placement group are in one zone.
- A function is in one place: `region` and `boto_profile` of `iam`, `cloudwatch`, `s3`, `ecr`, `api_gateway` and `batch`, if written, are those of `lambda`.
- An endpoint is made by `api_gateway` with a `name`, or by `function_url`. Without a word about `auth` IAM decides who may call it; `auth: none` lets everyone.
  `api_gateway.method.authorizationType`, as SCAR 4 has it, says the same and does not contradict `auth`.
- A `vpc` has subnets and security groups, or neither; a `file_system` needs a `vpc`, and in jobs a `FileSystemId`.
- A `storage_provider` is `s3`, or one that `storage_providers` describes, of the kinds `s3`, `minio` and `webdav` for functions in AWS. Paths of `s3` and `minio`
  begin with a bucket. A provider has its credentials or a `secret`, not both; a MinIO server that a function in AWS uses has an `endpoint`.
- A service of an OSCAR cluster has `endpoint` and `image`, and `auth_user` with `auth_password`; names of services of a cluster differ.
- Functions that share machines under one label (`batch.shared`) say the same of them.
- The variables of `lambda.environment` leave room for SCAR's own, and those of `batch.environment` fit a job definition (24 KiB).
- Names of functions differ.
- No two inputs have a file in common, as their folders, `prefix` and `suffix` say: S3 tells each file to one function only. `scar plan` and `scar init`
  hold them against what the bucket tells others, too.
- What a function writes reaches none of its own inputs, and no chain of functions comes back to where it began, by folders, `prefix` and `suffix`, and
  whatever the execution mode: they would start each other for ever. `scar plan` and `scar init` look at the functions that are deployed, too.
"""


def reference_markdown() -> str:
    """The whole page, ending with a newline."""
    parts = [INTRODUCTION]
    parts.extend(_chapter(title, section) for title, section in _sections(File, ""))
    return "\n".join(parts)


def _sections(section: type[Any], path: str) -> Iterator[tuple[str, type[Any]]]:
    """Every section with its key path, parents first."""
    yield path, section
    for field in keys_of(section):
        inner = field.shape.item or field.shape
        if inner.section is not None:
            step = f"{field.name}[]" if field.shape.kind == "list" else field.name
            yield from _sections(inner.section, f"{path}.{step}" if path else step)


def _chapter(path: str, section: type[Any]) -> str:
    fields = keys_of(section)
    lines = [f"## `{path}`" if path else "## The file", "", str(section.__doc__).partition("\n")[0], ""]
    if fields:
        lines += ["| Key | Value | Default | Meaning |", "|---|---|---|---|"]
        lines += [f"| `{field.name}` | {_value(field)} | {_default(field)} | {_meaning(field)} |" for field in fields]
        lines.append("")
    retired: dict[str, str] = dict(getattr(section, "RETIRED", {}))
    if retired:
        lines += ["Accepted without effect, with a warning:", ""]
        lines += [f"- `{name}`: {instead}" for name, instead in retired.items()]
        lines.append("")
    return "\n".join(lines)


def _value(field: Field) -> str:
    key = field.key
    text = _kind(field.shape)
    if key.single:
        text = f"list of exactly one {text}"
    if key.bare:
        text = f"text, or {text}"
    if key.wrapper:
        text = f"`{{{key.wrapper}: {{NAME: value}}}}`"
    if key.as_written and not key.wrapper:
        text += ", as written"
    if key.environ:
        text += ", `${env.NAME}`"
    limit = _limit(field)
    return f"{text}; {limit}" if limit else text


def _kind(shape: Shape) -> str:
    if shape.item is not None:
        return f"list of {_kind(shape.item)}" if shape.kind == "list" else f"table of {_kind(shape.item)}"
    return {
        "text": "text",
        "secret": "text, kept secret",
        "path": "path",
        "whole": "whole number",
        "truth": "true or false",
        "section": "section",
    }.get(shape.kind, "anything")


def _limit(field: Field) -> str:
    unit = f" {field.key.unit}" if field.key.unit else ""
    most = f"at most {field.key.most} items" if field.key.most is not None else ""
    match field.key.must:
        case Range(least, None):
            return f"from {least}{unit}"
        case Range(least, top):
            return f"{least} to {top}{unit}"
        case OneOf(values):
            return ", ".join(f"`{value}`" for value in values) + unit
        case Pattern(_, says=says) | Form(_, _, says=says):
            return says.replace("|", "\\|")
        case Names(_, says=says, bytes_=size, entries=entries):
            parts = [f"names: {says}"]
            if size is not None:
                parts.append(f"{size} bytes in all")
            if entries is not None:
                parts.append(f"at most {entries}")
            return "; ".join(parts).replace("|", "\\|")
    return most


def _default(field: Field) -> str:
    default = field.default
    if field.required:
        return "required"
    if default is None or default in ((), {}, "") or dataclasses.is_dataclass(default):
        return ""
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    return f"`[{default}]`" if field.key.single else f"`{default}`"


def _meaning(field: Field) -> str:
    key = field.key
    parts = [key.doc]
    if key.aliases:
        parts.append(f"Also written {', '.join(f'`{alias}`' for alias in key.aliases)}.")
    if key.legacy:
        parts.append(f"It {key.legacy}; a warning says so.")
    if key.must is not None and key.must.source:
        parts.append(f"Source of the limit: {key.must.source}.")
    return " ".join(parts).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
