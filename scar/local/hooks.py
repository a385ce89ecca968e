"""Every name of moto that the local AWS replaces, wraps or relies on, in one place.

moto has no plug-in point and moves its internals in minor releases. Each name is checked, with the parameters it must still take,
when the daemon starts and by tests/local/core/test_hooks.py, so that a moved one is an error with its name, not a strange behaviour.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from functools import reduce
from typing import Any, Final

from scar.errors import ScarError

# name → parameters (in order, from the first) that we pass or take; None: no callable
NAMES: Final[Mapping[str, tuple[str, ...] | None]] = {
    "moto.moto_server.werkzeug_app:DomainDispatcherApplication.get_application": ("self", "environ"),
    "moto.moto_server.werkzeug_app:MotoRequestHandler.make_environ": ("self",),
    "moto.moto_server.werkzeug_app:BackendRequest.data": None,
    "moto.moto_server.werkzeug_app:create_backend_app": ("service",),
    "moto.moto_server.werkzeug_app:DISABLE_GLOBAL_CORS": None,
    "moto.moto_server.utilities:RegexConverter.__init__": ("self", "url_map", "items"),
    "moto.backends:get_backend": ("name",),
    "moto.core.base_backend:BackendDict._instances": None,
    "moto.core.base_backend:BackendDict.iter_backends": ("self",),
    "moto.core.common_models:BaseModel.__new__": ("cls",),
    "moto.s3.models:FakeKey.value": None,
    "moto.s3.models:FakeKey.etag": None,
    "moto.s3.models:FakeKey.__init__": ("self", "name", "value", "account_id", "region_name"),
    "moto.s3.models:FakeKey.dispose": ("self", "garbage"),
    "moto.s3.models:FakeKey.__getstate__": ("self",),
    "moto.s3.models:FakeKey.__setstate__": ("self", "state"),
    "moto.s3.models:FakeDeleteMarker.version_id": None,
    "moto.s3.models:FakeMultipart.complete": ("self", "body"),
    "moto.s3.models:FakeMultipart.dispose": ("self",),
    "moto.s3.models:FakeBucket.get_permission": ("self", "action", "resource"),
    "moto.iam.models:get_account_id_from": ("access_key",),
    "moto.iam.models:IAMBackend.attach_role_policy": ("self", "policy_arn", "role_name"),
    "moto.iam.models:IAMBackend.attach_group_policy": ("self", "policy_arn", "group_name"),
    "moto.iam.models:IAMBackend.attach_user_policy": ("self", "policy_arn", "user_name"),
    "moto.iam.models:AWSManagedPolicy.from_data": ("cls", "name", "account_id", "region_name", "data"),
    "moto.iam.aws_managed_policies:aws_managed_policies_data": None,
    "moto.iam.models:IAMBackend.get_roles": ("self",),
    "moto.iam.models:IAMBackend.get_instance_profiles": ("self",),
    "moto.iam.models:IAMBackend.remove_role_from_instance_profile": ("self", "profile_name", "role_name"),
    "moto.events.models:EventPattern.matches_event": ("self", "event"),
    "moto.events.models:EventPattern.get_pattern": ("self",),
    "moto.events.models:EventTemplateParser.parse": ("input_template", "input_paths_map", "event"),
    "moto.iam.access_control:IAMPolicy.is_action_permitted": ("self", "action", "resource"),
    "moto.s3.models:FakeBucket.set_notification_configuration": ("self", "notification_config"),
    "moto.s3.models:Notification.matches": ("self", "event_name", "key_name"),
    "moto.s3.models:S3Backend.put_object": ("self", "bucket_name", "key_name", "value"),
    "moto.s3.models:S3Backend.delete_object": ("self", "bucket_name", "key_name", "version_id"),
    "moto.s3.models:S3Backend.put_object_acl": ("self", "bucket_name", "key_name", "acl"),
    "moto.s3.models:S3Backend.put_object_tagging": ("self", "key", "tags"),
    "moto.s3.models:S3Backend.delete_object_tagging": ("self", "bucket_name", "key_name", "version_id"),
    "moto.s3.models:S3Backend.put_object_legal_hold": ("self", "bucket_name", "key_name", "version_id"),
    "moto.s3.models:S3Backend.put_object_retention": ("self", "bucket_name", "key_name", "version_id"),
    "moto.s3.models:S3Backend.restore_object": ("self", "bucket_name", "key_name"),
    "moto.s3.models:S3Backend.copy_object": ("self", "src_key", "dest_bucket_name", "dest_key_name"),
    "moto.s3.models:S3Backend.get_object": ("self", "bucket_name", "key_name", "version_id"),
    "moto.s3.models:S3_UPLOAD_PART_MIN_SIZE": None,
    "moto.s3.models:s3_backends.bucket_accounts": None,
    "moto.s3.notifications:send_event": ("account_id", "event_name", "bucket", "key"),
    "moto.s3.notifications:_detail_type": ("event_name",),
    "moto.s3.responses:compute_checksum": ("body", "algorithm"),
    "moto.utilities.tagging_service:TaggingService.get_tag_dict_for_resource": ("self", "arn"),
    "moto.sqs.models:SQSBackend.send_message": ("self", "queue_name", "message_body"),
    "moto.logs.models:LogStream.put_log_events": ("self", "log_events"),
    "moto.logs.models:LogGroup.create_log_stream": ("self", "log_stream_name"),
    "moto.logs.models:LogGroup.delete_log_stream": ("self", "log_stream_name"),
    "moto.logs.models:LogsBackend.create_log_group": ("self", "log_group_name", "tags"),
    "moto.logs.models:LogsBackend.delete_log_group": ("self", "log_group_name"),
    "botocore.loaders:Loader.list_available_services": None,
    "botocore.loaders:Loader.search_paths": None,
    "werkzeug.routing.rules:Rule._compile_builder": ("self", "append_unknown"),
    "moto.logs.models:LogEvent.__init__": ("self", "ingestion_time", "log_event"),
}

# The same of services that cost too much to look at before they are asked for.
LATE_NAMES: Final[Mapping[str, Mapping[str, tuple[str, ...] | None]]] = {
    "resourcegroupstaggingapi": {
        "moto.resourcegroupstaggingapi.models:ResourceGroupsTaggingAPIBackend.get_resources": (
            "self",
            "pagination_token",
            "resources_per_page",
            "tags_per_page",
        )
    }
}


class MovedError(ScarError):
    """The installed moto is not the one this SCAR was written against."""


def find(name: str) -> Any:
    """What a `module:attribute.path` names. MovedError when moto has it no more."""
    module, _, path = name.partition(":")
    try:
        return reduce(_static, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise MovedError(
            f"moto has no {name} any more.",
            fix='Install the moto this SCAR was tested with: pip install "scar[local]".',
        ) from error


def _static(owner: Any, name: str) -> Any:
    return inspect.getattr_static(owner, name) if isinstance(owner, type) else getattr(owner, name)


def check(names: Mapping[str, tuple[str, ...] | None] = NAMES) -> None:
    """Raise MovedError for the first name that is gone or takes other parameters."""
    for name, wanted in names.items():
        found = find(name)
        if wanted is None:
            continue
        function = inspect.unwrap(getattr(found, "__func__", found))
        parameters = tuple(inspect.signature(function).parameters)
        if parameters[: len(wanted)] != wanted:
            raise MovedError(
                f"moto's {name} takes {parameters} now; SCAR was written for {wanted}.",
                fix='Install the moto this SCAR was tested with: pip install "scar[local]".',
            )
