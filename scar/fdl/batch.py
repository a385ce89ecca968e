"""The `batch` section of a function: the size of its jobs, the queue they wait in, and the machines they run on."""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from scar import limits
from scar.fdl.key import Key, OneOf, Pattern, Range
from scar.fdl.nodes import MultiNodeParallel, NodeGroup, groups
from scar.fdl.vocabulary import BATCH_GUIDE, ENVIRONMENT_DOC, JOB_NAMES, PROFILE, REGION

_ACCOUNT_DOC = "`{account_id}` in it becomes the account's number."


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeResources:
    """The machines that run jobs."""

    type: Annotated[
        str,
        Key(
            "What kind of machines: one's own (`EC2`), the same while AWS has some to spare, for much less (`SPOT`), or none to be seen "
            "(`FARGATE`, `FARGATE_SPOT`).",
            OneOf(("EC2", "SPOT", "FARGATE", "FARGATE_SPOT"), upper=True, source=BATCH_GUIDE),
        ),
    ] = "EC2"
    desired_v_cpus: Annotated[
        int, Key("vCPUs to begin with; from then on Batch goes by the jobs that wait.", Range(0, None))
    ] = 0
    min_v_cpus: Annotated[
        int, Key("vCPUs that are always there, and paid for. With 0, what does not run costs nothing.", Range(0, None))
    ] = 0
    max_v_cpus: Annotated[
        int,
        Key(
            "vCPUs of all jobs that run at once, at most. For jobs of several nodes, where it is not said: as many as all nodes of one need.",
            Range(1, None),
        ),
    ] = 2
    instance_types: Annotated[
        tuple[str, ...],
        Key(
            "EC2 instance types, families (`c7i`), or `default_x86_64`, `default_arm64` and `optimal`, which leave the choice to Batch. "
            "Without any: the default of the function's architecture.",
            Pattern(
                limits.INSTANCE_TYPE_PATTERN,
                says="an instance type, a family, or one of Batch's own words such as `optimal`",
            ),
        ),
    ] = ()
    allocation_strategy: Annotated[
        str | None,
        Key(
            "How Batch chooses among instance types. Without it: `BEST_FIT_PROGRESSIVE` for `EC2`, `SPOT_PRICE_CAPACITY_OPTIMIZED` for `SPOT`. "
            "With `BEST_FIT` AWS changes the machines of an environment never again.",
            OneOf(
                ("BEST_FIT", "BEST_FIT_PROGRESSIVE", "SPOT_CAPACITY_OPTIMIZED", "SPOT_PRICE_CAPACITY_OPTIMIZED"),
                upper=True,
                source=BATCH_GUIDE,
            ),
        ),
    ] = None
    subnets: Annotated[
        tuple[str, ...], Key("Where the machines are. Without any: the subnets of the default VPC.", most=16)
    ] = ()
    security_group_ids: Annotated[
        tuple[str, ...], Key("Their security groups. Without any: the default one of the subnets' VPC.", most=5)
    ] = ()
    placement_group: Annotated[
        str | None,
        Key(
            "A placement group of yours, for machines that talk much to each other. One of the strategy `cluster` is in one Availability Zone, "
            "and then so are the `subnets`.",
            Pattern(
                r"[ -~]{0,254}[!-~]",
                says="the name of a placement group",
                source="Amazon EC2 API reference, CreatePlacementGroup",
            ),
        ),
    ] = None
    launch_template_name: Annotated[
        str | None,
        Key(
            "A launch template of yours, for what machines need besides. `faas-supervisor`, which earlier versions made, is not used any more.",
            Pattern(
                r"[a-zA-Z0-9().\-/_]{3,128}",
                says="the name of a launch template",
                source="Amazon EC2 API reference, LaunchTemplateName",
            ),
        ),
    ] = None
    instance_role: Annotated[
        str | None,
        Key(
            "The instance profile of the machines, by name or ARN. Without it, `scar init` makes one that can do what ECS needs, and no more. "
            + _ACCOUNT_DOC,
            Pattern(
                limits.INSTANCE_PROFILE_PATTERN,
                says="the name of an instance profile, or its ARN: `arn:aws:iam::123456789012:instance-profile/name`",
                source=BATCH_GUIDE,
            ),
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How the function's jobs run in AWS Batch, for the execution modes `batch` and `lambda-batch`."""

    boto_profile: Annotated[
        str | None, Key("The AWS profile; the same as the function's, for jobs run beside it.", PROFILE)
    ] = None
    region: Annotated[
        str | None, Key("The AWS region; the same as the function's, for jobs run beside it.", REGION)
    ] = None
    vcpus: Annotated[
        str,
        Key(
            "vCPUs of a job; `0.25` and `0.5` for Fargate only.",
            Pattern(
                r"[1-9]\d{0,3}|0\.25|0\.5",
                says="a whole number from 1 on, or 0.25 or 0.5 for Fargate",
                source=BATCH_GUIDE,
            ),
            as_written=True,
        ),
    ] = "1"
    memory: Annotated[
        int,
        Key(
            "Memory of a job.",
            Range(limits.BATCH_LEAST_MEMORY_MIB, None, owner="Batch's", source=BATCH_GUIDE),
            unit="MiB",
        ),
    ] = 1024
    enable_gpu: Annotated[
        bool, Key("Whether a job gets a GPU of its own. `instance_types` must then name families that have some.")
    ] = False
    timeout: Annotated[
        int,
        Key(
            "The longest that one attempt of a job may take, downloads and uploads included.",
            Range(limits.BATCH_LEAST_TIMEOUT_S, None, owner="Batch's", source=BATCH_GUIDE),
            unit="s",
        ),
    ] = 86_400
    attempts: Annotated[
        int,
        Key(
            "How often a job is started at most. It is started again only when its machine was lost; a script that fails, fails once.",
            Range(*limits.BATCH_ATTEMPTS, owner="Batch's", source=BATCH_GUIDE),
        ),
    ] = 3
    state: Annotated[
        str,
        Key(
            "Whether jobs are taken and run. With `DISABLED` the queue takes none, and a hand-over fails.",
            OneOf(("ENABLED", "DISABLED"), upper=True, source=BATCH_GUIDE),
        ),
    ] = "ENABLED"
    type: Annotated[
        str,
        Key(
            "Who looks after the machines: Batch (`MANAGED`), or you, who start and register them (`UNMANAGED`).",
            OneOf(("MANAGED", "UNMANAGED"), upper=True, source=BATCH_GUIDE),
        ),
    ] = "MANAGED"
    priority: Annotated[
        int,
        Key(
            "Of queues that share machines, the one with the higher number goes first.",
            Range(*limits.BATCH_PRIORITY, owner="Batch's", source="AWS Batch user guide, job_queue_parameters"),
        ),
    ] = 1
    shared: Annotated[
        str | None,
        Key(
            "A label. All functions that give the same one share one queue and its machines, instead of one of each for every function; what "
            "they say of `state`, `priority` and `compute_resources` has to be the same.",
            Pattern(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}", says="1 to 64 letters, digits, - or _"),
        ),
    ] = None
    max_runnable_time: Annotated[
        int,
        Key(
            "How long the first job of the queue may wait when there is no room for it, or never can be. After that Batch cancels it.",
            Range(*limits.BATCH_RUNNABLE_TIME_S, owner="Batch's", source=BATCH_GUIDE),
            unit="s",
        ),
    ] = 86_400
    service_role: Annotated[
        str | None,
        Key(
            "The ARN of the role that Batch takes on. Without it, its own service-linked one: AWS changes the machines of an environment "
            "only with that. " + _ACCOUNT_DOC,
            Pattern(
                limits.SERVICE_ROLE_PATTERN,
                says="the ARN of a role: `arn:aws:iam::123456789012:role/name`",
                source=BATCH_GUIDE,
            ),
        ),
    ] = None
    environment: Annotated[
        Mapping[str, str],
        Key(f"What a job finds in its environment. {ENVIRONMENT_DOC}", JOB_NAMES, wrapper="Variables", as_written=True),
    ] = field(default_factory=dict)
    multi_node_parallel: Annotated[MultiNodeParallel, Key("One job on several machines.")] = field(
        default_factory=MultiNodeParallel
    )
    compute_resources: Annotated[ComputeResources, Key("The machines.")] = ComputeResources()

    @property
    def nodes(self) -> tuple[NodeGroup, ...]:
        """The nodes of a multi-node job, in groups that are alike; none for jobs of one machine."""
        several = self.multi_node_parallel
        return groups(several, int(self.vcpus), self.memory) if several.enabled else ()

    @property
    def fargate(self) -> bool:
        return self.type == "MANAGED" and self.compute_resources.type.startswith("FARGATE")
