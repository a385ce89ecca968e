"""AWS's limits as data with provenance. Checked 2026-11; sources are pages of docs.aws.amazon.com or botocore's service models.

botocore itself checks neither maxima nor patterns, and moto accepts almost anything, so the FDL and the local AWS both read these.
What a payload meets on its way is in `faassupervisor.hops`, which the agent counts with.
"""

from __future__ import annotations

from typing import Final

from faassupervisor import hops

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# lambda/latest/dg/gettingstarted-limits
LAMBDA_MEMORY_MIB: Final = (128, 10_240)
LAMBDA_MIB_PER_VCPU: Final = 1769  # lambda/latest/dg/configuration-memory: processor time grows with memory
LAMBDA_TIMEOUT_S: Final = (1, 900)  # botocore's 5400 is for Managed Instances only
LAMBDA_TMP_MIB: Final = (512, 10_240)
LAMBDA_ENVIRONMENT_BYTES: Final = hops.LAMBDA_ENVIRONMENT.limit  # names and values together
LAMBDA_SYNC_PAYLOAD_BYTES: Final = hops.SYNC_INVOKE.limit  # request, and reply
LAMBDA_ASYNC_PAYLOAD_BYTES: Final = hops.ASYNC_INVOKE.limit
LAMBDA_IMAGE_BYTES: Final = 10 * GIB  # uncompressed
LAMBDA_LAYERS: Final = 5
LAMBDA_ZIP_BYTES: Final = 52_428_800  # sent with the request; what is larger goes through S3
LAMBDA_UNZIPPED_BYTES: Final = 262_144_000  # layers included
LAMBDA_ASYNC_RETRIES: Final = 2  # one and two minutes after a function error
LAMBDA_ASYNC_RETRY_DELAYS_S: Final = (60.0, 120.0)
LAMBDA_TAIL_LOG_BYTES: Final = 4 * KIB
LAMBDA_CONCURRENCY: Final = 1000
LAMBDA_PROCESSES: Final = 1024
LAMBDA_FILE_DESCRIPTORS: Final = 1024
FUNCTION_NAME_PATTERN: Final = r"[a-zA-Z0-9_-]{1,64}"  # botocore lambda:FunctionName
FUNCTION_DESCRIPTION_CHARS: Final = 256
ENVIRONMENT_NAME_PATTERN: Final = r"[a-zA-Z][a-zA-Z0-9_]+"  # botocore lambda:EnvironmentVariableName
# lambda/latest/dg/configuration-envvars: names that Lambda keeps for itself
RESERVED_ENVIRONMENT: Final = frozenset(
    {
        "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
    }
)  # fmt: skip

# lambda/latest/dg/lambda-runtimes, deprecation dates; those of 3.10 and 3.11 from AWS's other copy of the table,
# bedrock-agentcore/latest/devguide/runtime-code-deploy-supported-runtimes. Not listed: supported (3.12 until 2028-10-31,
# 3.13 until 2029-06-30). A function of a deprecated runtime can in the end be neither created nor updated.
LAMBDA_PYTHON: Final = "python3.13"
LAMBDA_PYTHON_DEPRECATED: Final = {
    "python3.6": "2022-07-18", "python3.7": "2023-12-04", "python3.8": "2024-10-14", "python3.9": "2025-12-15",
    "python3.10": "2026-06-30", "python3.11": "2026-06-30",
}  # fmt: skip
LAYER_ARN_PATTERN: Final = r"arn:aws[a-zA-Z-]*:lambda:[a-z0-9-]+:\d{12}:layer:[a-zA-Z0-9_-]{1,140}:\d{1,18}"
# lambda/latest/dg/runtimes-modify: a script that Lambda starts instead of its own runtime, which it is given as arguments
LAMBDA_WRAPPER_VARIABLE: Final = "AWS_LAMBDA_EXEC_WRAPPER"

# AmazonS3/latest/userguide/bucketnamingrules, object-keys
BUCKET_NAME_PATTERN: Final = r"(?!xn--|sthree-|amzn-s3-demo-)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?!.*\.\.)[a-z0-9.-]{1,61}[a-z0-9](?<!-s3alias)(?<!--ol-s3)"
OBJECT_KEY_BYTES: Final = 1024

# botocore logs:Days
LOG_RETENTION_DAYS: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip

# batch/latest/userguide/service_limits
BATCH_JOB_DEFINITION_BYTES: Final = hops.JOB_DEFINITION.limit
BATCH_SUBMIT_JOB_BYTES: Final = hops.SUBMIT_JOB.limit
ECS_OVERRIDES_CHARS: Final = hops.ECS_OVERRIDES.limit
# botocore batch: JobTimeout, RetryStrategy, ResourceRequirement.value, JobStateTimeLimitAction
BATCH_LEAST_TIMEOUT_S: Final = 60
BATCH_ATTEMPTS: Final = (1, 10)
BATCH_LEAST_MEMORY_MIB: Final = 4
BATCH_RUNNABLE_TIME_S: Final = (600, 86_400)
BATCH_PRIORITY: Final = (0, 1000)  # batch/latest/userguide/job_queue_parameters
BATCH_NODES: Final = 1000  # batch/latest/userguide/mnp-node-groups
BATCH_NODE_RANGES: Final = 5  # batch/latest/userguide/mnp-node-groups
FARGATE_TIMEOUT_S: Final = 14 * 86_400  # batch/latest/userguide/job_timeouts: what runs longer is stopped
# botocore batch:ResourceRequirement.value: the memory (MiB) that Fargate has for so many vCPUs
FARGATE_MEMORY_MIB: Final = {
    "0.25": (512, 1024, 2048),
    "0.5": (1024, 2048, 3072, 4096),
    "1": tuple(range(2048, 8192 + 1, 1024)),
    "2": tuple(range(4096, 16_384 + 1, 1024)),
    "4": tuple(range(8192, 30_720 + 1, 1024)),
    "8": tuple(range(16_384, 61_440 + 1, 4096)),
    "16": tuple(range(32_768, 122_880 + 1, 8192)),
    "32": (61_440, 122_880, 249_856),
}
# botocore batch:ComputeResource.instanceTypes, .instanceRole
INSTANCE_TYPE_PATTERN: Final = r"optimal|default_x86_64|default_arm64|[a-z][a-z0-9-]{1,31}(\.[a-z0-9-]{1,31})?"
INSTANCE_PROFILE_PATTERN: Final = r"arn:aws[a-zA-Z-]*:iam::(\d{12}|\{account_id\}):instance-profile/[a-zA-Z0-9+=,.@_/-]{1,512}|[a-zA-Z0-9+=,.@_-]{1,128}"
SERVICE_ROLE_PATTERN: Final = r"arn:aws[a-zA-Z-]*:iam::(\d{12}|\{account_id\}):role/[a-zA-Z0-9+=,.@_/-]{1,512}"

# botocore lambda:Tags, TagKey, TagValue; names that begin with `aws:` are kept by AWS
TAGS_PER_RESOURCE: Final = 50
TAG_NAME_PATTERN: Final = r"(?![aA][wW][sS]:)[\w .:/=+@-]{1,128}"
TAG_VALUE_PATTERN: Final = r"[\w .:/=+@-]{0,256}"

# botocore lambda:RoleArn, iam:roleNameType
ROLE_ARN_PATTERN: Final = r"arn:aws[a-zA-Z-]*:iam::\d{12}:role/[a-zA-Z0-9+=,.@_/-]{1,512}"
# general/latest/gr/rande: us-east-1, us-gov-west-1, ap-southeast-5, eusc-de-east-1
REGION_PATTERN: Final = r"[a-z]{2,5}(-[a-z]{2,12}){1,3}-\d{1,2}"

# distribution/reference (the grammar of image references): name ≤ 255, tag ≤ 128
IMAGE_NAME_CHARS: Final = 255
IMAGE_REFERENCE_PATTERN: Final = (
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::\d{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
# containers-transports(5): where an image is, when that is not a registry
IMAGE_STORES: Final = ("docker-daemon", "containers-storage")
IMAGE_ARCHIVES: Final = ("docker-archive", "oci-archive", "oci")
IMAGE_PATTERN: Final = rf"(?:(?:docker://|(?:{'|'.join(IMAGE_STORES)}):)?{IMAGE_REFERENCE_PATTERN}|(?:{'|'.join(IMAGE_ARCHIVES)}):[^\x00-\x1f\x7f]+)"

CODE_FOLDER: Final = "scar-code"  # of a bucket: where the code and layers of zip functions are kept

# docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html: IPv4, FIPS and dual-stack names of a private registry
ECR_HOST_PATTERN: Final = (
    r"(?P<account>\d{12})\.(?:dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?"
    r"|dkr-ecr(?:-fips)?\.(?P<dual>[a-z0-9-]+)\.on\.(?:aws|amazonwebservices\.com\.cn))"
)
ECR_IMAGE_PATTERN: Final = rf"{ECR_HOST_PATTERN}/.+"

# What SCAR itself takes: a script travels in one small layer of the image, a definition file is read whole.
SCRIPT_BYTES: Final = 16 * MIB
DEFINITION_BYTES: Final = 1 * MIB
DEFINITION_NODES: Final = 20_000  # after aliases are expanded
DEFINITION_DEPTH: Final = 64
FUNCTIONS_PER_DEFINITION: Final = 200
STORAGES_PER_FUNCTION: Final = 20
