"""The Function Definition Language as types: every key of a definition file, what it means, and what it is when absent.

A field's annotation carries its `Key`: meaning, limits with their source, and whether this release can do it. The reader (`load`),
the JSON Schema and the reference page (`schema`) are driven by these, so a key is named here and nowhere else. To make a key work,
write the code behind it and take its `refused=` away.
"""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final

from faassupervisor import contract
from faassupervisor.contract import Mode
from scar import limits
from scar.fdl.key import LATER, Form, Key, Names, OneOf, Pattern, Range, Refusal

LAMBDA_GUIDE: Final = "AWS Lambda developer guide, gettingstarted-limits"
BATCH_GUIDE: Final = "AWS Batch API reference"

PROFILE: Final = Pattern(
    r"[^\s\[\]]{1,255}", says="the name of a profile in the AWS configuration files, without spaces"
)
REGION: Final = Pattern(
    limits.REGION_PATTERN, says="the name of an AWS region, such as `eu-west-1`", source="AWS general reference, rande"
)
LAMBDA_NAMES: Final = Names(
    limits.ENVIRONMENT_NAME_PATTERN,
    says="a letter, then at least one letter, digit or _",
    reserved=limits.RESERVED_ENVIRONMENT,
    reserved_by="Lambda keeps it for itself",
    bytes_=limits.LAMBDA_ENVIRONMENT_BYTES,
    source=LAMBDA_GUIDE,
)
# The names that the agent sets for every run; a user's value would never be seen.
AGENT_NAMES: Final = frozenset(
    {
        contract.INPUT_FILE_PATH, contract.TMP_INPUT_DIR, contract.TMP_OUTPUT_DIR, contract.STORAGE_OBJECT_KEY, contract.EVENT_TIME,
        contract.EVENT, contract.REQUEST_ID, contract.AWS_LAMBDA_REQUEST_ID, contract.INSTANCE_IP, contract.EVENT_FILE,
        contract.SCAR_FUNCTION, contract.SCAR_BUCKET, contract.SCAR_SEQUENCER,
    }
)  # fmt: skip
PROCESS_NAMES: Final = Names(
    r"[^=\s\x00-\x1f\x7f]{1,255}",
    says="1 to 255 characters without `=` or spaces",
    reserved=AGENT_NAMES,
    reserved_by="SCAR sets it for every run",
)
JOB_NAMES: Final = Names(
    r"(?!AWS_BATCH)[^=\s\x00-\x1f\x7f]{1,255}",
    says="1 to 255 characters without `=` or spaces, not beginning with `AWS_BATCH`",
    reserved=AGENT_NAMES,
    reserved_by="SCAR sets it for every run",
    source=BATCH_GUIDE,
)
TAG_NAMES: Final = Names(
    limits.TAG_NAME_PATTERN,
    says="1 to 128 letters, digits, spaces or any of `_.:/=+@-`, not beginning with `aws:`",
    reserved_prefixes=("scar:",),
    reserved_by="SCAR marks what it owns with such tags",
    entries=40,  # of limits.TAGS_PER_RESOURCE: the rest is for SCAR's own
    value_chars=limits.TAG_VALUE_CHARS,
    source="AWS Lambda API reference, Tags",
)
ENVIRONMENT_DOC: Final = "Numbers and truth values become the text that was written, so `1.10` stays `1.10`; a variable that is null is not set at all."
PROVIDERS: Final = (
    Refusal(
        r"s3\..+",
        "Use `s3`, and give the function's role access to the bucket.",
    ),
    Refusal(
        r"(minio|onedata|webdav|rucio)(\..+)?",
        "Use `s3`.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Io:
    """One item of `input` or `output`."""

    path: Annotated[
        str,
        Key(
            "The bucket, and a folder in it if there is one: `bucket[/folder…]`. A slash at the end is dropped.",
            Form(
                "bucket-path",
                r"[a-z0-9][a-z0-9.-]+[a-z0-9](/.*)?",
                says="a bucket name, then folders: `bucket/folder`",
                source="Amazon S3 user guide, bucketnamingrules and object-keys",
            ),
        ),
    ]
    storage_provider: Annotated[
        str,
        Key(
            "Where the bucket is.",
            OneOf(("s3", "minio", "onedata", "webdav", "rucio")),
            refusals=PROVIDERS,
        ),
    ] = "s3"
    prefix: Annotated[
        tuple[str, ...],
        Key("A file counts when its name begins with one of these; without any, every file does.", bare=True),
    ] = ()
    suffix: Annotated[
        tuple[str, ...],
        Key("A file counts when its name ends with one of these; without any, every file does.", bare=True),
    ] = ()

    @property
    def bucket(self) -> str:
        return self.path.partition("/")[0]

    @property
    def folder(self) -> str:
        return self.path.partition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What runs: exactly one of `image` and `image_file`."""

    RETIRED: ClassVar[Mapping[str, str]] = {
        "init_script": "Write `init_script` in `lambda` itself.",
        "extra_payload": "Put the files into the image.",
    }

    image: Annotated[
        str | None,
        Key(
            "The image in a registry, as `docker pull` takes it. `scratch` is the empty image, with nothing but SCAR's own Python.",
            Form(
                "image",
                limits.IMAGE_REFERENCE_PATTERN,
                says="`[registry/]name[:tag][@sha256:…]` in lower case, such as `ubuntu:24.04`",
                source="the distribution project's reference grammar",
            ),
        ),
    ] = None
    image_file: Annotated[
        Path | None,
        Key("The image on disk: an archive that `docker save` wrote, an OCI archive, or an OCI layout folder."),
    ] = None
    environment: Annotated[
        Mapping[str, str],
        Key(
            f"What the user's process finds in its environment. {ENVIRONMENT_DOC}",
            PROCESS_NAMES,
            wrapper="Variables",
            as_written=True,
        ),
    ] = field(default_factory=dict)
    timeout_threshold: Annotated[
        int,
        Key(
            "Kept back before `timeout`, so that a script that is stopped can still be reported. Less than `timeout`.",
            Range(1, limits.LAMBDA_TIMEOUT_S[1] - 1, owner="SCAR's"),
            unit="s",
        ),
    ] = 10
    alpine: Annotated[
        bool | None,
        Key("Whether the image uses musl.", refused=LATER, instead="Remove it: every libc works without being told."),
    ] = None
    create_image: Annotated[
        bool | None,
        Key(
            "Whether to derive an image from `image`.",
            refused=LATER,
            instead="Remove it: SCAR always derives its own image and never touches yours.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where the code of a zip function is uploaded to."""

    bucket: Annotated[
        str | None,
        Key(
            "The bucket for code that is too large for one request.",
            Pattern(limits.BUCKET_NAME_PATTERN, says="a bucket name"),
        ),
    ] = None
    max_payload_size: Annotated[int, Key("The largest code without a bucket.", Range(1, None), unit="bytes")] = (
        52_428_800
    )
    max_s3_payload_size: Annotated[int, Key("The largest code with a bucket.", Range(1, None), unit="bytes")] = (
        262_144_000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """Which agent earlier versions downloaded."""

    version: Annotated[str | None, Key("The agent's release.")] = None
    layer_name: Annotated[str | None, Key("The name of the agent's Lambda layer.")] = None
    license_info: Annotated[str | None, Key("The licence of the agent's Lambda layer.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vpc:
    """The network that a function joins; the keys are those of Lambda's `VpcConfig`."""

    subnet_ids: Annotated[tuple[str, ...], Key("The subnets.", name="SubnetIds", most=16)] = ()
    security_group_ids: Annotated[tuple[str, ...], Key("The security groups.", name="SecurityGroupIds", most=5)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """A file system that a function mounts; the keys are those of Lambda's `FileSystemConfigs`."""

    arn: Annotated[str, Key("The access point.", name="Arn")]
    local_mount_path: Annotated[
        str,
        Key(
            "Where it is mounted.",
            Pattern(
                r"/mnt/[a-zA-Z0-9_.-]{1,155}",
                says="`/mnt/` and one name",
                source="AWS Lambda API reference, FileSystemConfig",
            ),
            name="LocalMountPath",
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lambda:
    """The function itself: what runs, with how much of what, when, and where files come from and go to."""

    RETIRED: ClassVar[Mapping[str, str]] = {
        "handler": "Remove it: SCAR's agent is the handler.",
        "arn": "Remove it: AWS gives the function its ARN.",
        "config_path": "Remove it: paths are resolved against the folder of this file.",
        "file_stage_in": "Remove it: the file that started the run is always downloaded.",
        "download_input": "Remove it: the file that started the run is always downloaded.",
        "isolation_level": "Remove it: it belongs to OSCAR.",
        "bucket_list": "Remove it: it belongs to OSCAR.",
    }

    name: Annotated[
        str,
        Key(
            "The function's name; what SCAR makes for it is named after it.",
            Pattern(
                limits.FUNCTION_NAME_PATTERN,
                says="1 to 64 letters, digits, - or _",
                source="AWS Lambda API reference, FunctionName",
            ),
        ),
    ]
    runtime: Annotated[
        str,
        Key(
            "How the container reaches Lambda: `image` derives a container image.",
            OneOf(("image", *(f"python3.{minor}" for minor in range(6, 16)))),
            refusals=(
                Refusal(
                    r"python3\.\d+",
                    "Remove `runtime` (or write `image`): the same container and script then run as a container image.",
                ),
            ),
        ),
    ] = "image"
    memory: Annotated[
        int,
        Key(
            "Memory; processor time grows with it, one vCPU at 1769 MiB.",
            Range(*limits.LAMBDA_MEMORY_MIB, owner="Lambda's", source=LAMBDA_GUIDE),
            unit="MiB",
        ),
    ] = 512
    timeout: Annotated[
        int,
        Key(
            "The longest that one run may take, downloads and uploads included.",
            Range(*limits.LAMBDA_TIMEOUT_S, owner="Lambda's", source=LAMBDA_GUIDE),
            unit="s",
        ),
    ] = 300
    ephemeral_storage: Annotated[
        int,
        Key(
            "Room in `/tmp`, where input and output files of a run are kept.",
            Range(*limits.LAMBDA_TMP_MIB, owner="Lambda's", source=LAMBDA_GUIDE),
            unit="MiB",
        ),
    ] = 512
    description: Annotated[
        str,
        Key(
            "A line about the function, shown in the AWS console.",
            Pattern(
                rf"[^\x00-\x1f\x7f]{{0,{limits.FUNCTION_DESCRIPTION_CHARS}}}",
                says=f"one line of at most {limits.FUNCTION_DESCRIPTION_CHARS} characters",
                source="AWS Lambda API reference, Description",
            ),
        ),
    ] = ""
    execution_mode: Annotated[
        Mode,
        Key(
            "Where runs happen: in Lambda, in Batch, or in Lambda first and in Batch when time runs out.",
            OneOf(contract.MODES),
            refusals=(
                Refusal(
                    "lambda-batch|batch",
                    "Write `execution_mode: lambda` and keep a run within 900 s and 10240 MiB.",
                ),
            ),
        ),
    ] = "lambda"
    log_level: Annotated[
        str,
        Key(
            "How much the agent writes to the log; case does not matter.",
            OneOf(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), upper=True),
        ),
    ] = "INFO"
    layers: Annotated[
        tuple[str, ...],
        Key(
            "ARNs of Lambda layers, for a zip runtime.",
            refused=LATER,
            instead="Put the files into the image.",
            most=limits.LAMBDA_LAYERS,
        ),
    ] = ()
    environment: Annotated[
        Mapping[str, str],
        Key(
            f"The environment of the Lambda function, agent included. {ENVIRONMENT_DOC}",
            LAMBDA_NAMES,
            wrapper="Variables",
            as_written=True,
        ),
    ] = field(default_factory=dict)
    init_script: Annotated[
        Path | None,
        Key(
            "The script that runs in the container for every event, unless the event brings its own. Without one, the image's own command runs."
        ),
    ] = None
    run_script: Annotated[Path | None, Key("The script that `scar run` sends along, in place of `init_script`.")] = None
    c_args: Annotated[
        tuple[str, ...], Key("The command that `scar run` sends along, in place of the image's own.", as_written=True)
    ] = ()
    asynchronous: Annotated[bool, Key("Whether `scar run` answers at once, without waiting for the result.")] = False
    invocation_type: Annotated[
        str | None,
        Key(
            "Lambda's `InvocationType`.",
            refused=LATER,
            instead="Use `asynchronous: true` for `Event`, and nothing for `RequestResponse`.",
        ),
    ] = None
    log_type: Annotated[
        str | None, Key("Lambda's `LogType`.", refused=LATER, instead="Remove it: the end of the log is always shown.")
    ] = None
    preheat: Annotated[
        bool,
        Key("Whether `init` runs the function once.", refused=LATER, instead="Run `scar run` once after `scar init`."),
    ] = False
    extra_payload: Annotated[
        Path | None,
        Key("A folder to ship with a zip function.", refused=LATER, instead="Put the files into the image."),
    ] = None
    deployment: Annotated[
        Deployment,
        Key(
            "How the code of a zip function is uploaded.",
            refused=LATER,
            instead="Remove it: a container image needs no bucket to be deployed.",
        ),
    ] = Deployment()
    container: Annotated[Container, Key("What runs.")] = Container()
    architecture: Annotated[
        str,
        Key("The processor, as a list of exactly one.", OneOf(("x86_64", "arm64")), name="architectures", single=True),
    ] = "x86_64"
    vpc: Annotated[
        Vpc | None,
        Key(
            "The network to join.",
            refused=LATER,
            instead="Remove it: the function then runs outside of your networks, with internet access.",
        ),
    ] = None
    file_system: Annotated[
        tuple[FileSystem, ...],
        Key("The file system to mount.", refused=LATER, instead="Keep files in S3, or in `/tmp` for one run.", most=1),
    ] = ()
    supervisor: Annotated[
        Supervisor,
        Key(
            "Which agent to install.", legacy="has no effect: SCAR always installs the agent that it was released with"
        ),
    ] = Supervisor()
    input: Annotated[
        tuple[Io, ...],
        Key(
            "Where files come from: a new file in one of these folders starts a run.", most=limits.STORAGES_PER_FUNCTION
        ),
    ] = ()
    output: Annotated[
        tuple[Io, ...],
        Key(
            "Where the files go that a run leaves in `$TMP_OUTPUT_DIR`: to every item whose prefix and suffix fit.",
            most=limits.STORAGES_PER_FUNCTION,
        ),
    ] = ()
    tags: Annotated[
        Mapping[str, str], Key("Tags for everything that is made for the function.", TAG_NAMES, as_written=True)
    ] = field(default_factory=dict)
    boto_profile: Annotated[
        str | None, Key("The AWS profile to use; `AWS_PROFILE` and AWS's own default apply without it.", PROFILE)
    ] = None
    region: Annotated[str | None, Key("The AWS region; the profile's own without it.", REGION)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Iam:
    """What the function may do."""

    role: Annotated[
        str | None,
        Key(
            "The ARN of the role that the function takes on. Without it, `scar init` makes one that can do what the file asks for, and no more.",
            Pattern(
                limits.ROLE_ARN_PATTERN,
                says="the ARN of a role: `arn:aws:iam::123456789012:role/name`",
                source="AWS Lambda API reference, Role",
            ),
        ),
    ] = None
    boto_profile: Annotated[str | None, Key("The AWS profile for IAM, when it is not the function's.", PROFILE)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatch:
    """The function's log."""

    log_retention_policy_in_days: Annotated[
        int,
        Key(
            "How long log lines are kept.",
            OneOf(limits.LOG_RETENTION_DAYS, source="Amazon CloudWatch Logs API reference, PutRetentionPolicy"),
            unit="days",
        ),
    ] = 30
    boto_profile: Annotated[
        str | None, Key("The AWS profile for CloudWatch, when it is not the function's.", PROFILE)
    ] = None
    region: Annotated[str | None, Key("The AWS region for CloudWatch, when it is not the function's.", REGION)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """How buckets are reached."""

    boto_profile: Annotated[str | None, Key("The AWS profile for S3, when it is not the function's.", PROFILE)] = None
    region: Annotated[str | None, Key("The AWS region for S3, when it is not the function's.", REGION)] = None
    event: Annotated[
        Mapping[str, object],
        Key(
            "The event that a run over a bucket's files is given.",
            refused=LATER,
            instead="Remove it: SCAR writes the event as S3 does.",
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiGateway:
    """An HTTP front for the function."""

    name: Annotated[str | None, Key("The name of the API; giving one makes it.")] = None
    boto_profile: Annotated[
        str | None, Key("The AWS profile for API Gateway, when it is not the function's.", PROFILE)
    ] = None
    region: Annotated[str | None, Key("The AWS region for API Gateway, when it is not the function's.", REGION)] = None
    endpoint: Annotated[str | None, Key("The form of the URL.")] = None
    path_part: Annotated[str, Key("The path of the resource.")] = "{proxy+}"
    stage_name: Annotated[
        str, Key("The name of the stage.", Pattern(r"[a-zA-Z0-9_-]{1,128}", says="1 to 128 letters, digits, - or _"))
    ] = "scar"
    http_method: Annotated[
        str,
        Key("The HTTP method.", OneOf(("ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"), upper=True)),
    ] = "ANY"
    method: Annotated[Mapping[str, object], Key("Arguments of API Gateway's `PutMethod`.")] = field(
        default_factory=dict
    )
    integration: Annotated[Mapping[str, object], Key("Arguments of API Gateway's `PutIntegration`.")] = field(
        default_factory=dict
    )
    request_parameters: Annotated[Mapping[str, object], Key("Parameters of the request.")] = field(default_factory=dict)
    service_id: Annotated[str | None, Key("The service that may call the function.")] = None
    source_arn_testing: Annotated[str | None, Key("What may call the function from the console.")] = None
    source_arn_invocation: Annotated[str | None, Key("What may call the function.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiNodeParallel:
    """One job on several machines."""

    enabled: Annotated[bool, Key("Whether a job takes several machines.", aliases=("enable",))] = False
    number_nodes: Annotated[
        int, Key("How many.", Range(1, 1000, owner="Batch's", source="AWS Batch user guide, mnp-node-groups"))
    ] = 10
    main_node_index: Annotated[
        int, Key("Which of them is the main one, counted from 0.", Range(0, 999, owner="Batch's"))
    ] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """The machines that run jobs."""

    type: Annotated[
        str,
        Key(
            "What kind of machines.", OneOf(("EC2", "SPOT", "FARGATE", "FARGATE_SPOT"), upper=True, source=BATCH_GUIDE)
        ),
    ] = "EC2"
    desired_v_cpus: Annotated[int, Key("vCPUs to begin with.", Range(0, None))] = 0
    min_v_cpus: Annotated[int, Key("vCPUs that are always there, and paid for.", Range(0, None))] = 0
    max_v_cpus: Annotated[int, Key("vCPUs at most.", Range(1, None))] = 2
    instance_types: Annotated[tuple[str, ...], Key("EC2 instance types or families.")] = ()
    subnets: Annotated[tuple[str, ...], Key("Where the machines are.", most=16)] = ()
    security_group_ids: Annotated[tuple[str, ...], Key("Their security groups.", most=5)] = ()
    launch_template_name: Annotated[str | None, Key("The launch template that earlier versions made.")] = None
    instance_role: Annotated[str | None, Key("The ARN of the machines' instance profile.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How the function's jobs run in AWS Batch."""

    boto_profile: Annotated[str | None, Key("The AWS profile for Batch, when it is not the function's.", PROFILE)] = (
        None
    )
    region: Annotated[str | None, Key("The AWS region for Batch, when it is not the function's.", REGION)] = None
    vcpus: Annotated[int, Key("vCPUs of a job.", Range(1, None))] = 1
    memory: Annotated[int, Key("Memory of a job.", Range(4, None, owner="Batch's", source=BATCH_GUIDE), unit="MiB")] = (
        1024
    )
    enable_gpu: Annotated[bool, Key("Whether a job gets a GPU.")] = False
    state: Annotated[
        str, Key("Whether the queue takes jobs.", OneOf(("ENABLED", "DISABLED"), upper=True, source=BATCH_GUIDE))
    ] = "ENABLED"
    type: Annotated[
        str, Key("Who chooses the machines.", OneOf(("MANAGED", "UNMANAGED"), upper=True, source=BATCH_GUIDE))
    ] = "MANAGED"
    service_role: Annotated[
        str | None, Key("The ARN of the role that Batch takes on; its own service-linked one without it.")
    ] = None
    environment: Annotated[
        Mapping[str, str],
        Key(f"What a job finds in its environment. {ENVIRONMENT_DOC}", JOB_NAMES, wrapper="Variables", as_written=True),
    ] = field(default_factory=dict)
    multi_node_parallel: Annotated[MultiNodeParallel, Key("One job on several machines.")] = MultiNodeParallel()
    compute_resources: Annotated[ComputeResources, Key("The machines.")] = ComputeResources()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecr:
    """The repository that holds the function's image."""

    delete_image: Annotated[bool, Key("Whether `scar rm` removes the repository with the images in it.")] = True
    boto_profile: Annotated[
        str | None,
        Key(
            "The AWS profile for ECR.",
            PROFILE,
            refused=LATER,
            instead="Remove it: the image lives where the function does.",
        ),
    ] = None
    region: Annotated[
        str | None,
        Key(
            "The AWS region for ECR.",
            REGION,
            refused=LATER,
            instead="Remove it: Lambda takes images of its own region only.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One item of `functions.aws`."""

    lambda_: Annotated[Lambda, Key("The function itself.", name="lambda")]
    iam: Annotated[Iam, Key("What the function may do.")] = Iam()
    cloudwatch: Annotated[CloudWatch, Key("The function's log.")] = CloudWatch()
    s3: Annotated[S3, Key("How buckets are reached.")] = S3()
    ecr: Annotated[Ecr, Key("The repository that holds the function's image.")] = Ecr()
    api_gateway: Annotated[
        ApiGateway | None,
        Key("An HTTP front.", refused=LATER, instead="Remove it, and start the function by files or with `scar run`."),
    ] = None
    batch: Annotated[
        Batch | None,
        Key("How jobs run in AWS Batch.", refused=LATER, instead="Remove it, and write `execution_mode: lambda`."),
    ] = None
    source: Path | None = None  # the file it was read from

    @property
    def name(self) -> str:
        return self.lambda_.name


@dataclass(frozen=True, slots=True, kw_only=True)
class OscarService:
    """A service of an OSCAR cluster."""

    name: Annotated[str, Key("The service's name.")]
    endpoint: Annotated[str | None, Key("The cluster's URL.")] = None
    auth_user: Annotated[str | None, Key("The cluster's user.")] = None
    auth_password: Annotated[str | None, Key("The user's password.")] = None
    ssl_verify: Annotated[bool, Key("Whether the cluster's certificate is checked.")] = True
    memory: Annotated[str, Key("Memory, as Kubernetes writes it.")] = "256Mi"
    cpu: Annotated[str, Key("Processors, as Kubernetes writes them.", as_written=True)] = "0.2"
    log_level: Annotated[str, Key("How much is logged.")] = "INFO"
    image: Annotated[str | None, Key("The image.")] = None
    script: Annotated[Path | None, Key("The script.")] = None
    environment: Annotated[
        Mapping[str, str],
        Key("What the script finds in its environment.", PROCESS_NAMES, wrapper="Variables", as_written=True),
    ] = field(default_factory=dict)
    input: Annotated[tuple[Io, ...], Key("Where files come from.")] = ()
    output: Annotated[tuple[Io, ...], Key("Where files go.")] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """The functions, by where they run."""

    aws: Annotated[tuple[Function, ...], Key("Functions in AWS Lambda.", most=limits.FUNCTIONS_PER_DEFINITION)] = ()
    oscar: Annotated[
        tuple[Mapping[str, OscarService], ...],
        Key(
            "Services of OSCAR clusters, by the cluster's name.",
            refused=LATER,
            instead="Deploy them with OSCAR's own tool, from a file of their own.",
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Provider:
    """S3 with credentials of its own."""

    access_key: Annotated[str, Key("The access key.")]
    secret_key: Annotated[str, Key("Its secret.")]
    region: Annotated[str | None, Key("The region.", REGION)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MinioProvider:
    """A MinIO server."""

    access_key: Annotated[str, Key("The access key.")]
    secret_key: Annotated[str, Key("Its secret.")]
    endpoint: Annotated[str | None, Key("The server's URL.")] = None
    verify: Annotated[bool, Key("Whether the server's certificate is checked.")] = True
    region: Annotated[str | None, Key("The region.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnedataProvider:
    """A Onedata space."""

    oneprovider_host: Annotated[str, Key("The provider's host.")]
    token: Annotated[str, Key("The access token.")]
    space: Annotated[str, Key("The space.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebdavProvider:
    """A WebDAV server."""

    hostname: Annotated[str, Key("The server.")]
    login: Annotated[str, Key("The user.")]
    password: Annotated[str, Key("The user's password.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RucioProvider:
    """A Rucio server."""

    host: Annotated[str, Key("The server.")]
    rse: Annotated[str, Key("The storage element.")]
    account: Annotated[str, Key("The account.")]
    auth_host: Annotated[str, Key("The authentication server.")]
    access_token: Annotated[str | None, Key("The access token.")] = None
    refresh_token: Annotated[str | None, Key("The refresh token.")] = None
    client_id: Annotated[str | None, Key("The client that renews the token.")] = None
    token_endpoint: Annotated[str | None, Key("The URL that renews the token.")] = None
    scopes: Annotated[str | None, Key("The token's scopes.")] = None
    oidc_audience: Annotated[str | None, Key("The token's audience.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageProviders:
    """Credentials of storage, by kind and name."""

    s3: Annotated[Mapping[str, S3Provider], Key("S3 with credentials of its own.")] = field(default_factory=dict)
    minio: Annotated[Mapping[str, MinioProvider], Key("MinIO servers.")] = field(default_factory=dict)
    onedata: Annotated[Mapping[str, OnedataProvider], Key("Onedata spaces.")] = field(default_factory=dict)
    webdav: Annotated[Mapping[str, WebdavProvider], Key("WebDAV servers.")] = field(default_factory=dict)
    rucio: Annotated[Mapping[str, RucioProvider], Key("Rucio servers.")] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scar:
    """What earlier versions wrote about themselves."""

    config_version: Annotated[str | None, Key("The version of their configuration file.", as_written=True)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A definition file."""

    functions: Annotated[Functions, Key("The functions.")]
    storage_providers: Annotated[
        StorageProviders | None,
        Key(
            "Credentials of storage other than the function's own S3.",
            refused=LATER,
            instead="Remove it, and use the storage provider `s3`.",
        ),
    ] = None
    scar: Annotated[
        Scar,
        Key(
            "What earlier versions wrote about themselves.",
            legacy="has no effect: it told the version of the predecessor's settings",
        ),
    ] = Scar()
