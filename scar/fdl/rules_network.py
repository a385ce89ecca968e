"""Rules of where a function stands: one account and one region for all that belongs to it, and the network and file system that it joins."""

from __future__ import annotations

from typing import Final

from scar.fdl.model import Function
from scar.fdl.places import shown
from scar.fdl.read import Reading

# Why each section can only say what `lambda` says
_ONE_PLACE: Final = {
    "iam": "",  # knows no regions
    "cloudwatch": "Lambda writes a function's log where the function is",
    "s3": "S3 starts functions of a bucket's own region only",
    "ecr": "Lambda takes images of its own region only",
    "api_gateway": "an endpoint is made beside its function",
    "batch": "jobs run beside their function",
}
_ONE_ACCOUNT: Final = "all that belongs to a function is in one account, and made with one profile"
_OTHER_BUCKETS: Final = "Remove it. Credentials for buckets of others are written in `storage_providers.s3`."
_DEFAULT_PROFILE: Final = "default"  # SCAR 4 wrote it for 'whatever boto chooses'


def account_and_network(fn: Function, path: str, reading: Reading) -> None:
    """Add what is wrong with where one function is said to be; `path` is the function's."""
    for section, why in _ONE_PLACE.items():
        if section != "batch" or fn.jobs is not None:
            _one_place(fn, section, why, f"{path}.{section}", reading)
    at = f"{path}.lambda"
    _vpc(fn, f"{at}.vpc", reading)
    _files_of_jobs(fn, f"{at}.file_system", reading)
    if fn.lambda_.file_system and fn.lambda_.vpc is None and f"{at}.vpc" not in reading.failed:
        reading.problems.add(
            reading.place(f"{at}.file_system"),
            f"{at}.file_system",
            "a file system is reached through a network, and the function joins none",
            "Add `vpc` with subnets in which the file system has mount targets.",
        )


def _files_of_jobs(fn: Function, path: str, reading: Reading) -> None:
    """A job names the file system itself, and an access point's ARN does not tell it."""
    for index, each in enumerate(fn.lambda_.file_system if fn.jobs is not None else ()):
        key = f"{path}[{index}]"
        if each.file_system_id is None and f"{key}.FileSystemId" not in reading.failed:
            reading.problems.warn(
                reading.place(key),
                key,
                f"jobs do not mount `{each.local_mount_path}`: Batch asks which file system the access point is of",
                "Add `FileSystemId: fs-…`.",
            )


def _vpc(fn: Function, path: str, reading: Reading) -> None:
    vpc = fn.lambda_.vpc
    if (
        vpc is None
        or any(failed.startswith(path) for failed in reading.failed)
        or bool(vpc.subnet_ids) == bool(vpc.security_group_ids)
    ):
        return
    absent = "SecurityGroupIds" if vpc.subnet_ids else "SubnetIds"
    reading.problems.add(
        reading.place(path),
        path,
        f"`{absent}` is missing: Lambda takes subnets and security groups together (AWS Lambda API reference, VpcConfig)",
        f"Add `{absent}`.",
    )


def _one_place(fn: Function, section: str, why: str, path: str, reading: Reading) -> None:
    said = getattr(fn, section)
    for key in ("boto_profile", "region"):
        here, there = getattr(said, key, None), getattr(fn.lambda_, key)
        if here is None or here == there or not reading.sound(f"{path}.{key}"):
            continue
        if key == "boto_profile" and here == _DEFAULT_PROFILE and there is None:
            continue
        other = f"`lambda.{key}` is {shown(there)}" if there is not None else f"`lambda` has no `{key}`"
        reading.problems.add(
            reading.place(f"{path}.{key}"),
            f"{path}.{key}",
            f"{why if key == 'region' else _ONE_ACCOUNT}, and {other}",
            _OTHER_BUCKETS
            if section == "s3" and key == "boto_profile"
            else f"Remove it, or write the same in `lambda.{key}`.",
        )
