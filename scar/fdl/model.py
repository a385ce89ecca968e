"""The Function Definition Language as types: every key of a definition file, what it means, and what it is when absent.

A field's annotation carries its `Key`: meaning, and limits with their source. The reader (`load`), the JSON Schema and the reference page
(`schema`) are driven by these, so a key is named in the model and nowhere else. `batch`, `storage`, `providers` and `services` hold the
rest of the model.
"""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final

from faassupervisor import contract
from faassupervisor.contract import Mode
from scar import limits
from scar.fdl.batch import Batch as Batch
from scar.fdl.batch import ComputeResources as ComputeResources
from scar.fdl.key import Form, Key, OneOf, Pattern, Range
from scar.fdl.providers import NONE as NO_PROVIDERS
from scar.fdl.providers import Provider as Provider
from scar.fdl.providers import StorageProviders
from scar.fdl.services import ApiGateway as ApiGateway
from scar.fdl.services import FunctionUrl as FunctionUrl
from scar.fdl.services import OscarService
from scar.fdl.storage import Io as Io
from scar.fdl.vocabulary import ENVIRONMENT_DOC, LAMBDA_GUIDE, LAMBDA_NAMES, PROCESS_NAMES, PROFILE, REGION, TAG_NAMES

_LAMBDA_API: Final = "AWS Lambda API reference, VpcConfig"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What runs: exactly one of `image` and `image_file`."""

    RETIRED: ClassVar[Mapping[str, str]] = {
        "init_script": "Write `init_script` in `lambda` itself.",
        "extra_payload": "Write `extra_payload` in `lambda` itself, or put the files into the image.",
    }

    image: Annotated[
        str | None,
        Key(
            "The image in a registry, as `docker pull` takes it, or elsewhere: `docker-daemon:name` and `containers-storage:name` (Docker's and "
            "Podman's own stores), `docker-archive:path`, `oci-archive:path` and `oci:folder` (with `:tag` where there are several). "
            "`scratch` is the empty image, with nothing but SCAR's own Python.",
            Form(
                "image",
                limits.IMAGE_PATTERN,
                says="`[registry/]name[:tag][@sha256:…]` in lower case, such as `ubuntu:24.04`, or a transport of containers-transports(5)",
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
            "Kept back before `timeout`, so that a script that is stopped can still be reported, or handed over to Batch. In the mode `lambda` at most a quarter of `timeout` is.",
            Range(0, limits.LAMBDA_TIMEOUT_S[1] - 1, owner="SCAR's"),
            unit="s",
        ),
    ] = 10
    alpine: Annotated[
        bool | None,
        Key("Whether the image uses musl.", legacy="has no effect: every libc works without being told"),
    ] = None
    create_image: Annotated[
        bool,
        Key(
            "Whether SCAR derives an image of its own from `image`. `false`: `image` is already in a private ECR repository of the "
            "function's region, is run as it is, and is never changed or removed."
        ),
    ] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where the code of a zip function is uploaded to."""

    bucket: Annotated[
        str | None,
        Key(
            f"The bucket for the code and the image's layers, below `{limits.CODE_FOLDER}/`; made when it is absent, and never removed. "
            "Without one, SCAR's own bucket takes what needs one.",
            Pattern(limits.BUCKET_NAME_PATTERN, says="a bucket name"),
        ),
    ] = None
    max_payload_size: Annotated[
        int,
        Key(
            "The largest zip that is sent with the request; a larger one goes through the bucket.",
            Range(1, limits.LAMBDA_ZIP_BYTES, owner="Lambda's", source=LAMBDA_GUIDE),
            unit="bytes",
        ),
    ] = limits.LAMBDA_ZIP_BYTES
    max_s3_payload_size: Annotated[
        int,
        Key(
            "The largest code, unpacked: what is larger is refused.",
            Range(1, limits.LAMBDA_UNZIPPED_BYTES, owner="Lambda's", source=LAMBDA_GUIDE),
            unit="bytes",
        ),
    ] = limits.LAMBDA_UNZIPPED_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """Which agent earlier versions downloaded."""

    version: Annotated[str | None, Key("The agent's release.")] = None
    layer_name: Annotated[str | None, Key("The name of the agent's Lambda layer.")] = None
    license_info: Annotated[str | None, Key("The licence of the agent's Lambda layer.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vpc:
    """The network that a function joins; the keys are those of Lambda's `VpcConfig`."""

    subnet_ids: Annotated[
        tuple[str, ...],
        Key(
            "The subnets.",
            Pattern(
                r"subnet-[0-9a-z]{1,40}", says="the id of a subnet: `subnet-0123456789abcdef0`", source=_LAMBDA_API
            ),
            name="SubnetIds",
            most=16,
        ),
    ] = ()
    security_group_ids: Annotated[
        tuple[str, ...],
        Key(
            "The security groups.",
            Pattern(
                r"sg-[0-9a-zA-Z]{1,40}", says="the id of a security group: `sg-0123456789abcdef0`", source=_LAMBDA_API
            ),
            name="SecurityGroupIds",
            most=5,
        ),
    ] = ()
    ipv6: Annotated[
        bool, Key("Whether connections out may use IPv6, in subnets that have both.", name="Ipv6AllowedForDualStack")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """A file system that a function mounts; the keys are those of Lambda's `FileSystemConfigs`."""

    arn: Annotated[
        str,
        Key(
            "The access point of Amazon EFS.",
            Pattern(
                r"arn:aws[a-zA-Z-]*:elasticfilesystem:[a-z0-9-]+:\d{12}:access-point/fsap-[a-f0-9]{17}",
                says="the ARN of an access point: `arn:aws:elasticfilesystem:eu-west-1:123456789012:access-point/fsap-0123456789abcdef0`",
                source="AWS Lambda API reference, FileSystemConfig",
            ),
            name="Arn",
        ),
    ]
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
    file_system_id: Annotated[
        str | None,
        Key(
            "The file system that the access point is of. Lambda does not ask for it; jobs mount nothing without it.",
            Pattern(
                r"fs-[0-9a-f]{8,40}",
                says="the id of a file system: `fs-0123456789abcdef0`",
                source="AWS Batch API reference",
            ),
            name="FileSystemId",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lambda:
    """The function itself: what runs, with how much of what, when, and where files come from and go to."""

    RETIRED: ClassVar[Mapping[str, str]] = {
        "handler": "SCAR's agent is the handler.",
        "arn": "AWS gives the function its ARN.",
        "config_path": "Paths are resolved against the folder of this file.",
        "file_stage_in": "The file that started the run is always downloaded.",
        "download_input": "The file that started the run is always downloaded.",
        "isolation_level": "It belongs to OSCAR.",
        "bucket_list": "It belongs to OSCAR.",
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
            "How the container reaches Lambda: `image` derives a container image; `python3.x` deploys SCAR's agent as a zip, for accounts "
            "without ECR: it unpacks the image in `/tmp` and runs its programs there (images with the GNU C library and without static "
            "programs). What runs is the container's own software; a Python that Lambda has retired becomes "
            f"`{limits.LAMBDA_PYTHON}`.",
            OneOf(("image", *(f"python3.{minor}" for minor in range(6, 15)))),
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
            "Where runs happen: in Lambda (`lambda`), in Batch (`batch`), or in Lambda first and in Batch when time runs out (`lambda-batch`).",
            OneOf(contract.MODES),
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
            "ARNs of Lambda layers, for a zip runtime: their files are the agent's neighbours in `/opt`, not part of the container.",
            Pattern(
                limits.LAYER_ARN_PATTERN,
                says="the ARN of a version: `arn:aws:lambda:eu-west-1:123456789012:layer:name:1`",
                source="AWS Lambda API reference, LayerVersionArn",
            ),
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
    spill: Annotated[
        bool,
        Key(
            "Whether what is too large for a call goes through SCAR's own private bucket. `false`: it is refused, with the limit that it exceeds."
        ),
    ] = True
    asynchronous: Annotated[bool, Key("Whether `scar run` answers at once, without waiting for the result.")] = False
    invocation_type: Annotated[
        str | None,
        Key(
            "Lambda's word for the same: `Event` is `asynchronous: true`, `RequestResponse` is `false`. What `asynchronous` says counts.",
            OneOf(("RequestResponse", "Event"), source="AWS Lambda API reference, Invoke"),
        ),
    ] = None
    log_type: Annotated[
        str,
        Key(
            "Whether `scar run` shows what the script wrote (`Tail`) or not (`None`).",
            OneOf(("Tail", "None"), source="AWS Lambda API reference, Invoke"),
        ),
    ] = "Tail"
    preheat: Annotated[
        bool,
        Key(
            "Whether `init` runs the function once when it has made or changed it, with an event that names no file; as `asynchronous` says, "
            "`init` waits for the end of that run, and fails as it does."
        ),
    ] = False
    extra_payload: Annotated[
        Path | None,
        Key(
            "A folder (or a file) to ship with a zip function: the script finds what is in it in `$SCAR_PAYLOAD_DIR`. For a container image, "
            "put the files into the image."
        ),
    ] = None
    deployment: Annotated[
        Deployment,
        Key(
            "How the code of a zip function is uploaded. A container image needs nothing of it.",
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
            "The network to join. What the function reaches is then up to that network: S3 and the other services that it needs too.",
        ),
    ] = None
    file_system: Annotated[
        tuple[FileSystem, ...],
        Key("The file system to mount, in the function and in its jobs, at the same path. It needs `vpc`.", most=1),
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
            "The ARN of the role that the function takes on. Without it, `scar init` makes one that can do what the file asks for, and no more. "
            "It is the function's in Lambda; its jobs have roles of their own, and it has to be allowed to submit them.",
            Pattern(
                limits.ROLE_ARN_PATTERN,
                says="the ARN of a role: `arn:aws:iam::123456789012:role/name`",
                source="AWS Lambda API reference, Role",
            ),
        ),
    ] = None
    boto_profile: Annotated[str | None, Key("The AWS profile for IAM; it can be the function's only.", PROFILE)] = None


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
        str | None, Key("The AWS profile for CloudWatch; it can be the function's only.", PROFILE)
    ] = None
    region: Annotated[
        str | None,
        Key("The AWS region for CloudWatch; it can be the function's only: Lambda writes its log there.", REGION),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """How buckets are reached."""

    boto_profile: Annotated[
        str | None,
        Key(
            "The AWS profile for S3; it can be the function's only. Buckets of others: `storage_providers.s3`.", PROFILE
        ),
    ] = None
    region: Annotated[
        str | None,
        Key(
            "The AWS region for S3; it can be the function's only: S3 starts functions of a bucket's own region.",
            REGION,
        ),
    ] = None
    event: Annotated[
        Mapping[str, object],
        Key(
            "The event that a run over a bucket's files is given.",
            legacy="has no effect: `scar run` writes the event of each file as S3 does",
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecr:
    """The repository that holds the function's image."""

    delete_image: Annotated[bool, Key("Whether `scar rm` removes the repository with the images in it.")] = True
    boto_profile: Annotated[
        str | None,
        Key(
            "The AWS profile for ECR; it can be the function's only.",
            PROFILE,
        ),
    ] = None
    region: Annotated[
        str | None,
        Key(
            "The AWS region for ECR; it can be the function's only, for Lambda takes no images of another.",
            REGION,
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
        Key("An HTTP endpoint in Amazon API Gateway: answers within 29 s, or at once and the run goes on."),
    ] = None
    function_url: Annotated[
        FunctionUrl | None,
        Key("An HTTP endpoint of the function itself: one URL, without API Gateway's limit of time."),
    ] = None
    batch: Annotated[Batch, Key("How jobs run in AWS Batch, for the execution modes `batch` and `lambda-batch`.")] = (
        field(default_factory=Batch)
    )
    storage_providers: StorageProviders = NO_PROVIDERS  # the file's, for all of its functions
    source: Path | None = None  # the file it was read from

    @property
    def name(self) -> str:
        return self.lambda_.name

    @property
    def jobs(self) -> Batch | None:
        """How its jobs run; None when it has none."""
        return None if self.lambda_.execution_mode == "lambda" else self.batch

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Those of `storage_providers` that its inputs and outputs name, by their whole name (`minio.lab`)."""
        used = {item.provider for item in (*self.lambda_.input, *self.lambda_.output)}
        return {name: provider for name, provider in self.storage_providers.named() if name in used}


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """The functions, by where they run."""

    aws: Annotated[tuple[Function, ...], Key("Functions in AWS Lambda.", most=limits.FUNCTIONS_PER_DEFINITION)] = ()
    oscar: Annotated[
        tuple[Mapping[str, OscarService], ...],
        Key("Services of OSCAR clusters, by the cluster's name.", most=limits.FUNCTIONS_PER_DEFINITION),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scar:
    """What earlier versions wrote about themselves."""

    config_version: Annotated[str | None, Key("The version of their configuration file.", as_written=True)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What stands at the top of a file."""

    functions: Annotated[Functions, Key("The functions.")]
    storage_providers: Annotated[
        StorageProviders, Key("Storage that the function's own role does not reach, and its credentials.")
    ] = NO_PROVIDERS
    scar: Annotated[
        Scar,
        Key(
            "What earlier versions wrote about themselves.",
            legacy="has no effect: it was SCAR 4's note about its own settings",
        ),
    ] = Scar()
