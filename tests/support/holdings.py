"""What does an account hold, by AWS's own word? Each kind read through the API, with what changes by itself left out.

`ask` answers the client of a service; whether behind it is moto in this process or the local AWS makes no difference here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

Ask = Callable[[str], Any]

BY_ITSELF = {
    "LastModified",
    "RevisionId",
    "CreateDate",
    "RoleId",
    "createdAt",
    "creationTime",
    "RoleLastUsed",
    "ResponseMetadata",
}


def still(value: dict[str, Any]) -> dict[str, Any]:
    """Without what changes by itself."""
    return {key: item for key, item in value.items() if key not in BY_ITSELF}


def told(call: Callable[..., dict[str, Any]], **arguments: Any) -> dict[str, Any] | None:
    """What a call answers; None where there is nothing of the kind."""
    try:
        return still(call(**arguments))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
            raise
        return None


def pages(client: Any, operation: str, member: str, **arguments: Any) -> Iterator[Any]:
    """Every item of every page of a list."""
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(member, ())


def functions(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("lambda")
    for item in pages(client, "list_functions", "Functions"):
        name = item["FunctionName"]
        policy = told(client.get_policy, FunctionName=name)
        statements = json.loads(policy["Policy"])["Statement"] if policy else []
        found = client.get_function(FunctionName=name)
        yield (
            name,
            {
                "configuration": still(found["Configuration"]),
                "image": found["Code"].get("ImageUri"),
                "tags": found.get("Tags"),
                # moto, unlike AWS, takes a statement twice under one Sid when two ask at once
                "policy": [dict(found) for _, found in sorted({item["Sid"]: item for item in statements}.items())],
            },
        )


def invoke_configs(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("lambda")
    for item in pages(client, "list_functions", "Functions"):
        if config := told(client.get_function_event_invoke_config, FunctionName=item["FunctionName"]):
            yield item["FunctionName"], config


def log_groups(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("logs")
    for group in pages(client, "describe_log_groups", "logGroups"):
        tags = client.list_tags_for_resource(resourceArn=group["logGroupArn"])["tags"]
        yield group["logGroupName"], {**still(group), "tags": tags}


def roles(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("iam")
    for role in pages(client, "list_roles", "Roles"):
        name = role["RoleName"]
        inline = {
            policy: client.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in client.list_role_policies(RoleName=name)["PolicyNames"]
        }
        attached = client.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        tags = sorted(client.list_role_tags(RoleName=name)["Tags"], key=str)
        yield name, {**still(role), "inline": inline, "attached": attached, "Tags": tags}


def repositories(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("ecr")
    for repository in pages(client, "describe_repositories", "repositories"):
        name = repository["repositoryName"]
        images = client.describe_images(repositoryName=name)["imageDetails"]
        yield (
            name,
            {
                **still(repository),
                "images": sorted((image["imageDigest"], image.get("imageTags")) for image in images),
                "lifecycle": (told(client.get_lifecycle_policy, repositoryName=name) or {}).get("lifecyclePolicyText"),
                "policy": (told(client.get_repository_policy, repositoryName=name) or {}).get("policyText"),
                "tags": sorted(client.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"], key=str),
            },
        )


def rules(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("events")
    for rule in pages(client, "list_rules", "Rules"):
        targets = client.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        tags = sorted(map(str, client.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]))
        yield rule["Name"], (still(rule), targets, tags)


def notifications(client: Any, bucket: str) -> dict[str, Any]:
    """A bucket's notification configuration, its lists in the order of their Ids."""
    found = still(client.get_bucket_notification_configuration(Bucket=bucket))
    return {
        key: sorted(value, key=lambda item: str(item["Id"])) if isinstance(value, list) else value
        for key, value in found.items()
    }


BUCKET_SETTINGS = (
    "get_bucket_tagging",
    "get_bucket_policy",
    "get_bucket_encryption",
    "get_public_access_block",
    "get_bucket_lifecycle_configuration",
    "get_bucket_ownership_controls",
    "get_bucket_versioning",
)


def bucket_settings(client: Any, bucket: str) -> dict[str, Any]:
    """What the API tells of a bucket's settings, by the call that tells it."""
    return {asked: told(getattr(client, asked), Bucket=bucket) for asked in BUCKET_SETTINGS}


def buckets(ask: Ask) -> Iterator[tuple[str, Any]]:
    """With every version of every object, and the uploads that nobody finished."""
    client = ask("s3")
    for name in sorted(item["Name"] for item in client.list_buckets()["Buckets"]):
        listed = pages(client, "list_objects_v2", "Contents", Bucket=name)
        versions = pages(client, "list_object_versions", "Versions", Bucket=name)
        uploads = pages(client, "list_multipart_uploads", "Uploads", Bucket=name)
        yield (
            name,
            {
                # A lease whose holder died stays, expires by the clock of whoever waits for it, and is taken over.
                "objects": {
                    item["Key"]: (item["ETag"], item["Size"])
                    for item in listed
                    if not item["Key"].startswith("leases/")
                },
                "versions": sorted(
                    (item["Key"], item["ETag"]) for item in versions if item.get("VersionId", "null") != "null"
                ),
                "uploads": sorted(item["Key"] for item in uploads),
                "notifications": notifications(client, name),
                "settings": bucket_settings(client, name),
            },
        )


def instance_profiles(ask: Ask) -> Iterator[tuple[str, Any]]:
    for profile in pages(ask("iam"), "list_instance_profiles", "InstanceProfiles"):
        yield profile["InstanceProfileName"], sorted(role["RoleName"] for role in profile["Roles"])


def compute_environments(ask: Ask) -> Iterator[tuple[str, Any]]:
    for one in pages(ask("batch"), "describe_compute_environments", "computeEnvironments"):
        # The ECS cluster behind it, and the environment's own id, are drawn by lot.
        yield (
            one["computeEnvironmentName"],
            {key: value for key, value in one.items() if key not in {"uuid", "ecsClusterArn"}},
        )


def job_queues(ask: Ask) -> Iterator[tuple[str, Any]]:
    for one in pages(ask("batch"), "describe_job_queues", "jobQueues"):
        yield one["jobQueueName"], one


def job_definitions(ask: Ask) -> Iterator[tuple[str, Any]]:
    """The newest active one of each name; how many there were before it is history."""
    newest: dict[str, Any] = {}
    for one in pages(ask("batch"), "describe_job_definitions", "jobDefinitions", status="ACTIVE"):
        name = one["jobDefinitionName"]
        if name not in newest or one["revision"] > newest[name]["revision"]:
            newest[name] = one
    for name, one in newest.items():
        yield name, {key: value for key, value in one.items() if key not in {"revision", "jobDefinitionArn"}}


def queues(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("sqs")
    for url in pages(client, "list_queues", "QueueUrls"):
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy", "RedrivePolicy", "QueueArn"])
        yield url.rpartition("/")[2], found.get("Attributes")


def topics(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("sns")
    for topic in pages(client, "list_topics", "Topics"):
        arn = topic["TopicArn"]
        told_of = pages(client, "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn)
        yield arn, sorted((item["Protocol"], item["Endpoint"]) for item in told_of)


def parameters(ask: Ask) -> Iterator[tuple[str, Any]]:
    client = ask("ssm")
    for item in pages(client, "describe_parameters", "Parameters"):
        yield item["Name"], client.get_parameter(Name=item["Name"], WithDecryption=True)["Parameter"]["Value"]


KINDS: dict[str, Callable[[Ask], Iterator[tuple[str, Any]]]] = {
    "functions": functions,
    "invoke": invoke_configs,
    "log groups": log_groups,
    "roles": roles,
    "instance profiles": instance_profiles,
    "repositories": repositories,
    "buckets": buckets,
    "compute environments": compute_environments,
    "job queues": job_queues,
    "job definitions": job_definitions,
    "rules": rules,
    "queues": queues,
    "topics": topics,
    "parameters": parameters,
}
