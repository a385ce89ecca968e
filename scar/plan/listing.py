"""Which functions are ours in this region? Asked of tags and of lists alone, so that it takes neither a call nor a library a function.

A command that only lists starts a third sooner for being without what deploys.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.workflow.ends import End

DIGEST_CHARS: Final = 6


@dataclass(frozen=True, slots=True)
class Deployed:
    """One function of ours, as `ls` shows it.

    `inputs` and `outputs` are `bucket/folder`, or `provider://path` elsewhere than S3; a last `+3` stands for three more. `changed_by_hand`: the
    function itself is not as the last `init` left it; of what is around it, only a plan tells.
    """

    name: str
    arn: str
    memory_mib: int
    timeout_s: int
    image: str
    mode: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    modified: datetime
    changed_by_hand: bool = False


def functions(aws: Aws) -> tuple[Deployed, ...]:
    """Every function of ours in this region, by name. Calls: one per 100 of ours and, if there are any, one per 50 of all."""
    with mapped("list functions"), ThreadPoolExecutor(1, "list") as pool:
        pages = _tagged_pages(aws)
        ours = next((page for page in pages if page), {})
        if not ours:
            return ()
        listed = pool.submit(_listed, aws)  # while further pages of tags come
        for page in pages:
            ours |= page
        found = [_deployed(item, ours[item["FunctionArn"]]) for item in listed.result() if item["FunctionArn"] in ours]
    return tuple(sorted(found, key=lambda function: function.name))


def tagged(aws: Aws) -> dict[str, Mapping[str, str]]:
    """The tags of every function of ours in this region, by ARN; one call per 100."""
    return {arn: said for page in _tagged_pages(aws) for arn, said in page.items()}


def _tagged_pages(aws: Aws) -> Iterator[dict[str, Mapping[str, str]]]:
    pages = aws.tagging.get_paginator("get_resources").paginate(
        TagFilters=[{"Key": tags.FUNCTION}],
        ResourceTypeFilters=["lambda:function"],
        PaginationConfig={"PageSize": 100},
    )
    for page in pages:
        yield {
            item["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in item["Tags"]}
            for item in page["ResourceTagMappingList"]
        }


def _listed(aws: Aws) -> list[Mapping[str, Any]]:
    pages = aws.lambda_.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 50})
    return [item for page in pages for item in page["Functions"]]


def _deployed(config: Mapping[str, Any], said: Mapping[str, str]) -> Deployed:
    return Deployed(
        name=config["FunctionName"],
        arn=config["FunctionArn"],
        memory_mib=config["MemorySize"],
        timeout_s=config["Timeout"],
        image=" ".join(tags.unpacked(said.get(tags.IMAGE, ""))),
        mode=said.get(tags.MODE, "lambda"),
        inputs=_paths(said, tags.INPUT),
        outputs=_paths(said, tags.OUTPUT),
        modified=_moment(config["LastModified"]),
        changed_by_hand=not is_as_left(config, said.get(tags.SETTLED, "")),
    )


def _paths(said: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Without the filters, which are for `neighbours`."""
    return tuple(str(replace(End.read(item), prefixes=(), suffixes=())) for item in tags.unpacked(said.get(key, "")))


def _moment(text: str) -> datetime:
    """`2026-11-21T12:00:00.000+0000`, as Lambda writes it."""
    return datetime.fromisoformat(text)


def is_as_left(config: Mapping[str, Any], said: str) -> bool:
    """Whether a function that a list shows is as the note says it was left; without a note it is."""
    listed = said.partition(".")[0]
    return not listed or listed == listed_digest(config)


def listed_digest(config: Mapping[str, Any]) -> str:
    """Of what a list of functions shows of one, and nobody but who deploys it changes."""
    keys = ("Role", "MemorySize", "Timeout", "Description", "Runtime", "Architectures", "CodeSha256")
    said: dict[str, Any] = {key: config.get(key) or None for key in keys}
    said["Environment"] = (config.get("Environment") or {}).get("Variables") or None
    said["EphemeralStorage"] = (config.get("EphemeralStorage") or {}).get("Size") or 512
    said["Layers"] = [layer["Arn"] for layer in config.get("Layers") or ()]
    network = config.get("VpcConfig") or {}
    said["Network"] = [sorted(network.get(key) or ()) for key in ("SubnetIds", "SecurityGroupIds")]
    said["Files"] = [[each["Arn"], each["LocalMountPath"]] for each in config.get("FileSystemConfigs") or ()]
    return short(json.dumps(said, sort_keys=True), DIGEST_CHARS)


def short(text: str, chars: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode(errors="surrogatepass")).digest()).decode()[:chars]
