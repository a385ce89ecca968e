"""The AWS client library's data, cut down to what the agent and users' scripts call.

A client reads its service's model when it is made, so what is not in it is not waited for: descriptions, compression, other
services' endpoints. For S3 that is 230 KB of JSON in place of 2.6 MB, and a tenth of the time to a ready client.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

SERVICES: Final = ("s3", "sts", "batch", "lambda", "logs", "ecr", "sso", "sso-oidc")
_SHARED: Final = ("_retry.json", "endpoints.json", "partitions.json", "sdk-default-configuration.json")
_DESCRIBED: Final = ("shapes", "operations")  # elsewhere botocore insists on the descriptions


def files(botocore: Path, boto3: Path) -> Iterator[tuple[Path, str]]:
    """What is kept of the two packages: the file, and its place beside them. Descriptions of examples are left out."""
    folders = [botocore / "data" / service for service in SERVICES] + [boto3 / "data" / "s3"]
    found = [botocore / "data" / name for name in _SHARED]
    found += (path for folder in folders for path in sorted(folder.rglob("*.json*")) if path.is_file())
    for path in found:
        if not path.name.startswith("examples-"):
            package = botocore if path.is_relative_to(botocore) else boto3
            yield path, f"{package.name}/{path.relative_to(package)}".removesuffix(".gz")


def content(path: Path, botocore: Path) -> bytes:
    """A file's content as the bundle holds it."""
    raw = path.read_bytes()
    document = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    if path.name.startswith("service-2.json"):
        document |= {key: _undescribed(document[key]) for key in _DESCRIBED if key in document}
        document.pop("documentation", None)
    elif path == botocore / "data" / "endpoints.json":
        _keep_services(document, _endpoint_names(botocore))
    return json.dumps(document, separators=(",", ":")).encode()


def _undescribed(value: Any) -> Any:
    if isinstance(value, dict):
        # A member may be named so as well; then it is no text.
        kept = (item for item in value.items() if item[0] != "documentation" or not isinstance(item[1], str))
        return {name: _undescribed(inner) for name, inner in kept}
    return [_undescribed(inner) for inner in value] if isinstance(value, list) else value


def _endpoint_names(botocore: Path) -> set[str]:
    names = set()
    for service in SERVICES:
        for model in (botocore / "data" / service).glob("*/service-2.json*"):
            raw = model.read_bytes()
            names.add(json.loads(gzip.decompress(raw) if model.suffix == ".gz" else raw)["metadata"]["endpointPrefix"])
    return names


def _keep_services(endpoints: dict[str, Any], names: set[str]) -> None:
    for partition in endpoints["partitions"]:
        partition["services"] = {name: known for name, known in partition["services"].items() if name in names}
