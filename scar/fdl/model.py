"""The Function Definition Language as types: every key of a definition file, what it means, and what it is when absent.

A field's annotation carries its `Key`: meaning, and limits with their source. The reader (`load`), the JSON Schema and the reference page
(`schema`) are driven by these, so a key is named in the model and nowhere else. `parts`, `batch`, `storage`, `providers` and `services`
hold the rest of the model.
"""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from faassupervisor import contract
from faassupervisor.contract import Mode
from scar import limits
from scar.fdl.batch import Batch as Batch
from scar.fdl.batch import ComputeResources as ComputeResources
from scar.fdl.key import Key, OneOf, Pattern, Range
from scar.fdl.parts import Container as Container
from scar.fdl.parts import Deployment as Deployment
from scar.fdl.parts import FileSystem as FileSystem
from scar.fdl.parts import Supervisor as Supervisor
from scar.fdl.parts import Vpc as Vpc
from scar.fdl.providers import NONE as NO_PROVIDERS
from scar.fdl.providers import Provider as Provider
from scar.fdl.providers import StorageProviders
from scar.fdl.services import ApiGateway as ApiGateway
from scar.fdl.services import FunctionUrl as FunctionUrl
from scar.fdl.services import OscarService
from scar.fdl.storage import Io as Io
from scar.fdl.vocabulary import ENVIRONMENT_DOC, LAMBDA_GUIDE, LAMBDA_NAMES, PROFILE, REGION, TAG_NAMES


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
    ] = field(default_factory=Deployment)
    container: Annotated[Container, Key("What runs.")] = field(default_factory=Container)
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
    ] = field(default_factory=Supervisor)
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
