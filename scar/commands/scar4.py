"""The words of SCAR 4.3.1 that its users have in their fingers, scripts and files, and what became of each. Data only.

A word without a remark works as before. What a key of a definition is worth now, `scar.fdl` knows: the remarks here tell only what is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["works as before", "works better", "replaced", "refused"]
BEFORE: Final = "works as before"
BETTER: Final = "works better"
REPLACED: Final = "replaced"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Word:
    """A word, what became of it, and how. `names`: short and long."""

    names: tuple[str, ...]
    verdict: Verdict = BEFORE
    how: str = ""

    @property
    def name(self) -> str:
        return self.names[-1]


def _w(names: str, verdict: Verdict = BEFORE, how: str = "") -> Word:
    return Word(tuple(names.split()), verdict, how)


_PROFILE: Final = _w("-pf --profile", BETTER, "had no effect: is now the AWS profile of the whole command")
_JSON: Final = _w("-j --json", BETTER, "one document on standard output and nothing else; errors too")
_VERBOSE: Final = _w(
    "-v --verbose", REPLACED, "tells more on standard error; AWS's answers are in `-o json`, its calls in `--debug`"
)
_NO_MENU: Final = "a file of several functions asks for `-n` and never shows a menu"

COMMANDS: Final = (
    _w(
        "init",
        BETTER,
        "makes the functions, or brings them up to date: only what differs is touched, and a second `init` changes nothing",
    ),
    _w("invoke", BETTER, "signs the request where the endpoint asks for it"),
    _w("run", BETTER, "ends with the exit code of the script"),
    _w("ls", BETTER, "shows mode, image, buckets and endpoints of every function"),
    _w("rm", BETTER, "removes what was made for a function, and leaves buckets and their files"),
    _w(
        "log",
        BETTER,
        "joins what Lambda and Batch wrote, of runs that failed too; also `--follow`, `--since`, `--search`",
    ),
    _w("put", BETTER, "keeps trees, and reads no file whole into memory"),
    _w("get", BETTER, "leaves nothing half-written"),
    _w("update", REPLACED, "was named in SCAR 4's texts only: `init` brings functions up to date"),
)

FLAGS: Final[dict[str, tuple[Word, ...]]] = {
    "": (
        _w("-h --help", BETTER, "has examples; no error is printed behind it"),
        _w("--version"),
    ),
    "init": (
        _w("-i --image"),
        _w("-if --image-file", BETTER, "OCI archives and layouts too; works as root, and without udocker"),
        _w("-f --conf-file", BETTER, "may be combined with the other flags, which win"),
        _w("-n --name", BETTER, "with `-f` only this function of the file, or the name of the one that has none"),
        _w("-s --init-script", BETTER, "is looked for in the current folder, then beside the file"),
        _w("-ph --preheat", BETTER, "waits for that run unless `asynchronous` says otherwise, and fails as it does"),
        _w("-ep --extra-payload", BETTER, "the script finds it, in `$SCAR_PAYLOAD_DIR`"),
        _w("-db --deployment-bucket", BETTER, "does not crash without `-if`"),
        _w("-api --api-gateway-name", BETTER, "the endpoint is not open to the world: IAM says who may call it, or `--api-auth none`"),
        _w("-d --description"),
        _w("-e --environment", BETTER, "`A=b=c` is `A` with the value `b=c`; `-e A` takes `A` from your environment"),
        _w("-le --lambda-environment", BETTER, "as `-e`"),
        _w("-m --memory", BETTER, "is checked: 128 to 10240 MiB"),
        _w("-t --timeout", BETTER, "is checked: 1 to 900 s"),
        _w("-tt --timeout-threshold", BETTER, "had no effect: is now `container.timeout_threshold`"),
        _w("-ll --log-level"),
        _w("-l --layers"),
        _w("-ib --input-bucket", BETTER, "may be given several times; takes the place of the file's `input`"),
        _w("-ob --output-bucket", BETTER, "may be given several times; takes the place of the file's `output`"),
        _w("-em --execution-mode", BETTER, "had no effect: is now `lambda.execution_mode`"),
        _w("-r --iam-role", BETTER, "is not needed: without it SCAR makes a role that can do what the function needs"),
        _w("-sv --supervisor-version", REPLACED, "accepted without effect: SCAR installs the agent that it was released with"),
        _w("-rt --runtime", BETTER, "a Python that Lambda has retired is replaced, and said"),
        _w("-bm --batch-memory", BETTER, "is checked"),
        _w("-bc --batch-vcpus", BETTER, "is checked"),
        _w("-g --enable-gpu", BETTER, "is checked against the machines"),
        _PROFILE, _JSON, _VERBOSE,
    ),
    "invoke": (
        _w("-n --name"),
        _w("-f --conf-file", BETTER, _NO_MENU),
        _w("-db --data-binary", BETTER, "sent as it is, streamed"),
        _w("-jd --json-data", BETTER, "sent as JSON; SCAR 4 sent a form"),
        _w("-p --parameters"),
        _w("-a --asynchronous", BETTER, "prints a request id that `scar log -ri` follows"),
        _w("-o --output-file", BETTER, "written whole or not at all"),
        _PROFILE,
    ),
    "run": (
        _w("-n --name"),
        _w("-f --conf-file", BETTER, _NO_MENU),
        _w("-s --run-script"),
        _w("-ib --input-bucket", BETTER, "each object once; SCAR 4 sent the last one as often as there were objects"),
        _w("-a --asynchronous"),
        _w("-o --output-file"),
        _JSON, _VERBOSE, _PROFILE,
    ),
    "ls": (
        _w("-b --bucket", BETTER, "all objects, however many there are"),
        _JSON, _VERBOSE, _PROFILE,
    ),
    "rm": (
        _w("-n --name"),
        _w("-a --all", BETTER, "asks first, on a terminal; elsewhere it needs `--yes`"),
        _w("-f --conf-file"),
        _JSON, _VERBOSE, _PROFILE,
    ),
    "log": (
        _w("-n --name"),
        _w("-f --conf-file", BETTER, _NO_MENU),
        _w("-ls --log-stream-name"),
        _w("-ri --request-id", BETTER, "the one id finds the run in Lambda and its job in Batch"),
        _PROFILE,
    ),
    "put": (_w("-b --bucket"), _w("-p --path", BETTER, "may be given several times; a folder's tree is kept"), _PROFILE),
    "get": (_w("-b --bucket"), _w("-p --path", BETTER, "may be left out: the current folder"), _PROFILE),
}  # fmt: skip

# Key paths below an item of `functions.aws`, or below the file where they begin with a dot.
KEYS: Final = (
    *(_w(f".{name}") for name in ("functions.aws", "functions.oscar", "scar", "scar.config_version")),
    _w(".storage_providers", BETTER, "credentials are kept in a parameter of SSM, not in the function; `${env.NAME}` keeps them out of the file"),
    _w("lambda.name"), _w("lambda.boto_profile", BETTER, "is not needed: AWS's own settings count"),
    _w("lambda.region", BETTER, "is not needed: AWS's own settings count"),
    _w("lambda.runtime", BETTER, "`image` is the default; a Python that Lambda has retired is replaced, and said"),
    _w("lambda.memory", BETTER, "is checked: 128 to 10240 MiB"), _w("lambda.timeout", BETTER, "is checked: 1 to 900 s"),
    _w("lambda.description"), _w("lambda.execution_mode", BETTER, "with every runtime; what Lambda ends for lack of time goes on in Batch"),
    _w("lambda.log_level"), _w("lambda.layers"), _w("lambda.environment.Variables"),
    _w("lambda.init_script", BETTER, "its first line decides what runs it; its exit code counts"), _w("lambda.run_script"), _w("lambda.c_args"),
    _w("lambda.asynchronous"), _w("lambda.invocation_type"), _w("lambda.log_type"),
    _w("lambda.preheat", BETTER, "waits for that run unless `asynchronous` says otherwise, and fails as it does"),
    _w("lambda.extra_payload", BETTER, "the script finds it, in `$SCAR_PAYLOAD_DIR`"), _w("lambda.deployment.bucket"),
    _w("lambda.deployment.max_payload_size", BETTER, "compared with the zip that is sent"), _w("lambda.deployment.max_s3_payload_size"),
    _w("lambda.container.image", BETTER, "also archives, layouts, and images of Docker and Podman on this machine"),
    _w("lambda.container.image_file", BETTER, "resolved against the file's folder"), _w("lambda.container.environment.Variables", BETTER, "in no layer of the image"),
    _w("lambda.container.timeout_threshold"), _w("lambda.container.alpine"), _w("lambda.container.create_image"),
    _w("lambda.container.init_script"), _w("lambda.container.extra_payload"),
    _w("lambda.architectures"), _w("lambda.vpc"), _w("lambda.vpc.SubnetIds"), _w("lambda.vpc.SecurityGroupIds"),
    _w("lambda.file_system", BETTER, "jobs mount it too, with `FileSystemId`"), _w("lambda.file_system.Arn"), _w("lambda.file_system.LocalMountPath"),
    _w("lambda.supervisor.version"), _w("lambda.supervisor.layer_name"), _w("lambda.supervisor.license_info"),
    _w("lambda.input"), _w("lambda.input.storage_provider"), _w("lambda.input.path"),
    _w("lambda.output"), _w("lambda.output.storage_provider", BETTER, "one that nobody describes is an error; SCAR 4 threw the files away"),
    _w("lambda.output.path"), _w("lambda.output.prefix"), _w("lambda.output.suffix", BETTER, "a single word is a list of one; SCAR 4 took its letters"),
    _w("lambda.tags"), _w("lambda.handler"), _w("lambda.arn"), _w("lambda.config_path"),
    _w("lambda.file_stage_in"), _w("lambda.download_input"), _w("lambda.isolation_level"), _w("lambda.bucket_list"),
    _w("iam.boto_profile"), _w("iam.role", BETTER, "is not needed: without it SCAR makes a role that can do what the function needs"),
    *(_w(f"api_gateway.{name}") for name in ("name", "boto_profile", "region", "endpoint", "path_part", "stage_name", "http_method")),
    _w("api_gateway.method", BETTER, "without `authorizationType: NONE` the endpoint is not open to the world; `auth` says the same in one word"),
    *(_w(f"api_gateway.{name}") for name in ("integration", "request_parameters", "service_id", "source_arn_testing", "source_arn_invocation")),
    _w("cloudwatch.boto_profile"), _w("cloudwatch.region"), _w("cloudwatch.log_retention_policy_in_days", BETTER, "is checked"),
    _w("s3.boto_profile"), _w("s3.region"), _w("s3.event"), _w("ecr.delete_image"),
    _w("batch.boto_profile"), _w("batch.region"), _w("batch.vcpus"), _w("batch.memory"), _w("batch.enable_gpu"), _w("batch.state"), _w("batch.type"),
    _w("batch.service_role", BETTER, "is not needed"), _w("batch.environment.Variables"),
    _w("batch.multi_node_parallel.enabled"), _w("batch.multi_node_parallel.number_nodes"), _w("batch.multi_node_parallel.main_node_index"),
    _w("batch.compute_resources.type", BETTER, "also `SPOT`, `FARGATE` and `FARGATE_SPOT`"), _w("batch.compute_resources.desired_v_cpus"),
    _w("batch.compute_resources.min_v_cpus"), _w("batch.compute_resources.max_v_cpus"),
    _w("batch.compute_resources.instance_types", BETTER, "a list takes the place of the default; the retired `m3.medium` is no default any more"),
    _w("batch.compute_resources.subnets", BETTER, "is not needed: those of the default VPC"),
    _w("batch.compute_resources.security_group_ids", BETTER, "is not needed: the default one"),
    _w("batch.compute_resources.launch_template_name", BETTER, "is not needed: jobs bring the agent in their image"),
    _w("batch.compute_resources.instance_role", BETTER, "is not needed: SCAR makes one"),
    *(_w(f".storage_providers.s3.ID.{name}") for name in ("access_key", "secret_key", "region")),
    *(_w(f".storage_providers.minio.ID.{name}") for name in ("access_key", "secret_key", "endpoint", "verify", "region")),
    *(_w(f".storage_providers.webdav.ID.{name}") for name in ("hostname", "login", "password")),
    *(_w(f".storage_providers.onedata.ID.{name}", REFUSED, "for functions in AWS, which have no client of Onedata; services of OSCAR may use it")
      for name in ("oneprovider_host", "token", "space")),
    *(_w(f".storage_providers.rucio.ID.{name}", REFUSED, "for functions in AWS, which have no client of Rucio; services of OSCAR may use it")
      for name in ("host", "rse", "account", "auth_host", "access_token", "refresh_token", "client_id", "token_endpoint", "scopes", "oidc_audience")),
    *(_w(f".functions.oscar.CLUSTER.{name}") for name in (
        "name", "endpoint", "auth_user", "ssl_verify", "memory", "cpu", "log_level", "image", "script", "environment.Variables", "input", "output")),
    _w(".functions.oscar.CLUSTER.auth_password", BETTER, "is sent as the request's password only, not in its body too"),
)  # fmt: skip

# Of the client
VARIABLES: Final = (
    _w("SCAR_CONFIG_FOLDER"),
    _w(
        "SCAR_LOG_PATH",
        REPLACED,
        "accepted without effect: nothing is written to a log file; `--debug` tells it on standard error",
    ),
    _w("SCAR_TMP_CFG", REPLACED, "was between parts of SCAR 4: nothing is left between commands"),
    _w("AWS_PROFILE", BETTER, "is obeyed; SCAR 4 forced `default`"),
    _w("AWS_REGION", BETTER, "is obeyed; SCAR 4 forced `us-east-1`"),
    _w("AWS_DEFAULT_REGION", BETTER, "is obeyed; SCAR 4 forced `us-east-1`"),
    _w("AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN", BETTER, "are enough: no profile has to exist"),
)
# What scripts see
SCRIPT_VARIABLES: Final = (
    _w("INPUT_FILE_PATH"),
    _w("TMP_INPUT_DIR", BETTER, "with every runtime"),
    _w("TMP_OUTPUT_DIR", BETTER, "published when the exit code is 0, and only then"),
    _w("STORAGE_OBJECT_KEY"), _w("EVENT_TIME"),
    _w("EVENT", BETTER, "absent when it is too long for a variable: `SCAR_EVENT_FILE` always has it"),
    _w("REQUEST_ID", BETTER, "with every runtime, and in jobs"),
    _w("AWS_LAMBDA_REQUEST_ID", BETTER, "with every runtime, and in jobs"),
    _w("INSTANCE_IP"),
    _w("AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN"),
    _w("CONT_VAR_name", BETTER, "query parameters of an HTTP request, with every runtime; nothing of one run reaches the next"),
    _w("AWS_BATCH_JOB_NODE_INDEX AWS_BATCH_JOB_NUM_NODES AWS_BATCH_JOB_MAIN_NODE_INDEX AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"),
    _w("EXTRA_PAYLOAD", REPLACED, "`SCAR_PAYLOAD_DIR`"),
    _w("FDL FUNCTION_CONFIG SCRIPT CONTEXT", REPLACED, "the agent's own, with secrets in them: a script does not see them; `SCAR_FUNCTION`, `SCAR_EVENT_FILE` and others tell it what it needs"),
    _w("UDOCKER_BIN UDOCKER_LIB UDOCKER_DIR UDOCKER_EXEC", REPLACED, "there is no udocker"),
)  # fmt: skip
