"""What a function that joins a network, or mounts a file system, is made of and may do besides.

Sources: lambda/latest/dg/configuration-vpc (the permissions of the role, whose first five know no resources of a network interface that does
not exist yet: service-authorization/latest/reference/list_amazonec2), lambda/latest/dg/configuration-filesystem, and
efs/latest/ug/iam-access-control-nfs-efs (the actions of a client, and `AccessPointArn`).
"""

from __future__ import annotations

from typing import Any, Final

from scar.aws.resources.function import JoinedNetwork
from scar.aws.tags import Pairs
from scar.design.site import Site
from scar.fdl.model import FileSystem, Function

Statement = dict[str, Any]

_INTERFACES: Final = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)
_VOLUME: Final = "shared"


def network(fn: Function) -> JoinedNetwork:
    vpc = fn.lambda_.vpc
    if vpc is None:
        return JoinedNetwork()
    return JoinedNetwork(tuple(sorted(vpc.subnet_ids)), tuple(sorted(vpc.security_group_ids)), vpc.ipv6)


def files(fn: Function) -> Pairs:
    return tuple((each.arn, each.local_mount_path) for each in fn.lambda_.file_system)


def network_statements(fn: Function, site: Site) -> tuple[Statement, ...]:
    """Of the function's role: Lambda makes its network interfaces, and mounts its file system, as the function.

    The function's own code must not touch interfaces: Lambda's calls carry no `lambda:SourceFunctionArn`, the code's do.
    """
    statements: list[Statement] = []
    if fn.lambda_.vpc is not None:
        statements.append({"Sid": "JoinNetwork", "Effect": "Allow", "Action": list(_INTERFACES), "Resource": ["*"]})
        # lambda/latest/dg/configuration-vpc: "Deny the function's own code": the condition exists in the code's calls alone.
        statements.append(
            {
                "Sid": "NotTheCode",
                "Effect": "Deny",
                "Action": list(_INTERFACES),
                "Resource": ["*"],
                "Condition": {"ArnEquals": {"lambda:SourceFunctionArn": [site.arn("lambda", f"function:{fn.name}")]}},
            }
        )
    return (*statements, *file_statements(fn, site))


def file_statements(fn: Function, site: Site) -> tuple[Statement, ...]:
    """Of the function's and its jobs' roles: mount through the access point, read and write."""
    return tuple(
        {
            "Sid": "MountFiles",
            "Effect": "Allow",
            "Action": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"],
            "Resource": [_file_system_arn(each)],
            "Condition": {"StringEquals": {"elasticfilesystem:AccessPointArn": each.arn}},
        }
        for each in fn.lambda_.file_system
    )


def job_volumes(fn: Function) -> dict[str, Any]:
    """What a job's container says of the file system: the same access point at the same path. Nothing without the id of the file system."""
    mounted = [each for each in fn.lambda_.file_system if each.file_system_id is not None]
    if not mounted:
        return {}
    return {
        "volumes": [
            {
                "name": _VOLUME,
                "efsVolumeConfiguration": {
                    "fileSystemId": each.file_system_id,
                    "transitEncryption": "ENABLED",
                    "authorizationConfig": {"accessPointId": each.arn.rpartition("/")[2], "iam": "ENABLED"},
                },
            }
            for each in mounted
        ],
        "mountPoints": [{"sourceVolume": _VOLUME, "containerPath": each.local_mount_path} for each in mounted],
    }


def _file_system_arn(each: FileSystem) -> str:
    """The access point's ARN tells partition, region and account, and not which file system it is of."""
    head = each.arn.rpartition(":")[0]
    return f"{head}:file-system/{each.file_system_id or '*'}"
