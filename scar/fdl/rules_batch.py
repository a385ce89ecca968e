"""What the keys of a function's jobs ask of each other, and what AWS Batch asks of them. Each rule names the page that it is from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from faassupervisor import contract, hops
from scar import limits
from scar.fdl import machines
from scar.fdl.batch import Batch, ComputeResources
from scar.fdl.model import Function
from scar.fdl.places import shown
from scar.fdl.read import Reading
from scar.fdl.rules_nodes import are_sound, not_in_lambda, several_nodes
from scar.fdl.vocabulary import SITE_NAMES

Add = Callable[[str, str, str], None]  # key below the section, what, fix

OLD_TEMPLATE: Final = "faas-supervisor"  # the launch template that earlier versions made
# What earlier versions wrote for everybody into their configuration file, which says nothing of what its owner wants on Fargate.
_WRITTEN_FOR_ALL: Final = (OLD_TEMPLATE, "arn:aws:iam::{account_id}:instance-profile/ecsInstanceRole")
_API: Final = "AWS Batch API reference"
_SHORTEST_REGION: Final = "us-east-1"
# Which strategies go with which machines
_STRATEGIES: Final = {
    "EC2": ("BEST_FIT", "BEST_FIT_PROGRESSIVE"),
    "SPOT": ("SPOT_CAPACITY_OPTIMIZED", "SPOT_PRICE_CAPACITY_OPTIMIZED"),
}


def jobs(fn: Function, path: str, reading: Reading) -> None:
    """Add what is wrong with one function's jobs; `path` is the function's. A mode without jobs leaves the section unused: a warning."""
    at = f"{path}.batch"
    if not_in_lambda(fn, path, reading):
        return
    if fn.jobs is None:
        if reading.sound(at) and fn.batch != Batch() and f"{path}.lambda.execution_mode" not in reading.failed:
            what = "`batch` has no effect: runs of the execution mode `lambda` are no jobs"
            reading.problems.warn(reading.place(at), at, what, "Remove it, or write `execution_mode: lambda-batch`.")
        return
    if any(failed == at or failed.startswith(f"{at}.") for failed in reading.failed):
        return  # half of a section would only mislead

    def add(key: str, what: str, fix: str) -> None:
        here = f"{at}.{key}"
        reading.problems.add(reading.place(here), here, what, fix)

    def warn(key: str, what: str, fix: str) -> None:
        here = f"{at}.{key}"
        reading.problems.warn(reading.place(here), here, what, fix)

    _zip_runtime(fn, path, reading)
    several_nodes(fn, fn.jobs, add, warn)
    _environment(fn.jobs, add)
    if fn.jobs.type == "UNMANAGED":
        _unmanaged(fn.jobs, add)
        return
    _numbers(fn.jobs, add)
    if fn.jobs.compute_resources.launch_template_name == OLD_TEMPLATE:
        what = f"`{OLD_TEMPLATE}` is not used: jobs bring SCAR's agent in their image"
        warn("compute_resources.launch_template_name", what, "Remove it.")
    if fn.jobs.fargate:
        _fargate(fn.jobs, add)
    else:
        _machines(fn, fn.jobs, add, warn)


# What a label's functions have in common, as keys of `batch`
_SHARED: Final = ("state", "type", "priority", "max_runnable_time", "service_role", "compute_resources")


def labels(functions: Sequence[Function], reading: Reading) -> None:
    """Functions that share machines under a label must say the same of them: each would undo what another's `init` did."""
    first: dict[tuple[str, bool], tuple[int, Function]] = {}
    for index, fn in enumerate(functions):
        at = f"functions.aws[{index}].batch"
        if fn.jobs is None or fn.jobs.shared is None or any(failed.startswith(at) for failed in reading.failed):
            continue
        place = (fn.jobs.shared, fn.jobs.fargate)  # machines of one's own and Fargate never share a place
        other, whose = first.setdefault(place, (index, fn))
        assert whose.jobs is not None, "it has a label"
        for key in _SHARED:
            if getattr(fn.jobs, key) != getattr(whose.jobs, key):
                here = f"{at}.{key}"
                what = f"`{shown(fn.jobs.shared)}` is shared with functions.aws[{other}], which says something else of `{key}`"
                reading.problems.add(reading.place(here), here, what, "Say the same in both, or give another label.")
        if not fn.jobs.fargate and fn.lambda_.architecture != whose.lambda_.architecture:
            here = f"{at}.shared"
            what = f"`{shown(fn.jobs.shared)}` is shared with functions.aws[{other}], whose image is for {whose.lambda_.architecture}"
            source = f"one architecture in an environment: {_API}, ComputeResource.instanceTypes"
            reading.problems.add(reading.place(here), here, f"{what} ({source})", "Give another label.")


def room_in_lambda(fn: Function, path: str, reading: Reading) -> None:
    """SCAR's own variables take a part of the room for the function's environment. What is counted here is certain: the design counts all."""
    key = f"{path}.lambda.environment"
    if not reading.sound(key):
        return
    for name in sorted(SITE_NAMES & fn.lambda_.environment.keys()):
        here = f"{key}.Variables.{name}"
        what = f"`{name}` cannot be set: it tells SCAR's agent where it stands"
        reading.problems.add(reading.place(here), here, what, "Choose another name.")
    own = sum(len(name) + least for name, least in _own_variables(fn))
    size = hops.environment_bytes(fn.lambda_.environment)
    if size <= limits.LAMBDA_ENVIRONMENT_BYTES < size + own:
        what = (
            f"names and values take {size} bytes together, and SCAR needs at least {own} of Lambda's "
            f"{limits.LAMBDA_ENVIRONMENT_BYTES} for its own ({hops.LAMBDA_ENVIRONMENT.source})"
        )
        reading.problems.add(reading.place(key), key, what, hops.LAMBDA_ENVIRONMENT.fix)


def _own_variables(fn: Function) -> Iterator[tuple[str, int]]:
    """Each with the least size that its value has."""
    yield contract.STATE, len(f"s3://scar-state-{'0' * 12}-{_SHORTEST_REGION}/functions/{fn.name}/")
    if fn.lambda_.runtime != "image":
        yield limits.LAMBDA_WRAPPER_VARIABLE, len("/var/task/scar-bootstrap")
    if (batch := fn.jobs) is not None:
        yield contract.JOB_QUEUE, len(f"scar-{batch.shared or fn.name}")
        yield contract.JOB_DEFINITION, len(f"scar-{fn.name}-{'0' * 16}")
        if batch.multi_node_parallel.enabled:
            yield contract.JOB_NODES, len("0:0")


def _zip_runtime(fn: Function, path: str, reading: Reading) -> None:
    """A job runs in the derived image whatever the runtime is, and a zip's payload is not in that."""
    key = f"{path}.lambda.extra_payload"
    if fn.lambda_.runtime != "image" and fn.lambda_.extra_payload is not None and reading.sound(key):
        what = (
            "`extra_payload` is in the zip only, and jobs run an image: a run would find it in Lambda and not in Batch"
        )
        reading.problems.add(
            reading.place(key), key, what, "Put the files into the image, or write `execution_mode: lambda`."
        )


def _environment(batch: Batch, add: Add) -> None:
    written = [{"name": name, "value": value} for name, value in batch.environment.items()]
    ranges = len(batch.nodes) if are_sound(batch) else 0
    size = hops.sent_bytes({"environment": written}) * max(1, ranges)
    if not hops.JOB_DEFINITION.fits(size):
        each = f", once for each of its {ranges} ranges of nodes" if ranges > 1 else ""
        what = f"the variables alone take {size} bytes of a job definition{each}, which has room for {hops.JOB_DEFINITION.limit}"
        add("environment", f"{what} ({hops.JOB_DEFINITION.source})", hops.JOB_DEFINITION.fix)


def _unmanaged(batch: Batch, add: Add) -> None:
    if batch.compute_resources != ComputeResources():
        add(
            "compute_resources",
            f"with `type: UNMANAGED` the machines are yours, and AWS takes nothing that is said of them ({_API}, CreateComputeEnvironment)",
            "Remove `compute_resources`, or write `type: MANAGED`.",
        )
    if batch.service_role is None:
        add(
            "type",
            f"an UNMANAGED environment needs a service role of yours ({_API}, CreateComputeEnvironment.serviceRole)",
            "Name one in `service_role`, or write `type: MANAGED`.",
        )
    if "." in batch.vcpus:
        _whole_vcpus(batch, add)


def _numbers(batch: Batch, add: Add) -> None:
    machines_ = batch.compute_resources
    most = machines_.max_v_cpus
    if machines_.min_v_cpus > most:
        add(
            "compute_resources.min_v_cpus",
            f"at least {machines_.min_v_cpus} vCPUs and at most {most} ({_API}, ComputeResource)",
            "Raise `max_v_cpus`, or lower `min_v_cpus`.",
        )
    elif (
        not batch.fargate and machines_.desired_v_cpus and not machines_.min_v_cpus <= machines_.desired_v_cpus <= most
    ):
        add(
            "compute_resources.desired_v_cpus",
            f"{machines_.desired_v_cpus} vCPUs to begin with are not between the {machines_.min_v_cpus} and {most} that are allowed ({_API}, ComputeResource)",
            f"Write a number from {machines_.min_v_cpus} to {most}, or remove the key.",
        )
    if float(batch.vcpus) > most and not batch.multi_node_parallel.enabled:
        add(
            "vcpus",
            f"a job of {batch.vcpus} vCPUs never starts where all jobs together have {most}: it would wait for ever ({_API}, ComputeResource.maxvCpus)",
            f"Raise `compute_resources.max_v_cpus` to {batch.vcpus} or more.",
        )


def _fargate(batch: Batch, add: Add) -> None:
    kind = batch.compute_resources.type
    memory = limits.FARGATE_MEMORY_MIB.get(batch.vcpus)
    source = f"{_API}, ResourceRequirement.value"
    if memory is None:
        add(
            "vcpus",
            f"{kind} has no jobs of {_cpus(batch)} ({source})",
            f"Write one of {', '.join(limits.FARGATE_MEMORY_MIB)}.",
        )
    elif batch.memory not in memory:
        least = next((size for size in memory if size >= batch.memory), memory[-1])
        add(
            "memory",
            f"{kind} has no jobs of {_cpus(batch)} with {batch.memory} MiB ({source})",
            f"Write `memory: {least}`, or another of {_told(memory)}.",
        )
    for key, given in (
        ("instance_types", batch.compute_resources.instance_types),
        ("instance_role", batch.compute_resources.instance_role),
        ("launch_template_name", batch.compute_resources.launch_template_name),
        ("placement_group", batch.compute_resources.placement_group),
        ("allocation_strategy", batch.compute_resources.allocation_strategy),
        ("min_v_cpus", batch.compute_resources.min_v_cpus),
        ("desired_v_cpus", batch.compute_resources.desired_v_cpus),
    ):
        if given and given not in _WRITTEN_FOR_ALL:
            add(
                f"compute_resources.{key}",
                f"`{key}` is of machines, and {kind} has none of yours ({_API}, ComputeResource)",
                "Remove it, or write `type: EC2`.",
            )
    if batch.enable_gpu:
        what = f"{kind} has no GPUs ({_API}, ResourceRequirement.value)"
        add("enable_gpu", what, "Write `compute_resources: {type: EC2}` and name families that have GPUs.")
    if batch.timeout > limits.FARGATE_TIMEOUT_S:
        what = f"{kind} stops what runs longer than 14 days ({limits.FARGATE_TIMEOUT_S} s) (AWS Batch user guide, job_timeouts)"
        add("timeout", what, f"Write at most {limits.FARGATE_TIMEOUT_S}, or `compute_resources: {{type: EC2}}`.")


def _cpus(batch: Batch) -> str:
    return f"{batch.vcpus} vCPU{'' if batch.vcpus == '1' else 's'}"


def _told(sizes: tuple[int, ...]) -> str:
    """`1024, 2048, 3072`; of many the step between them."""
    if len(sizes) <= 4:
        return ", ".join(map(str, sizes))
    return f"{sizes[0]} to {sizes[-1]} in steps of {sizes[1] - sizes[0]}"


def _machines(fn: Function, batch: Batch, add: Add, warn: Add) -> None:
    resources = batch.compute_resources
    if "." in batch.vcpus:
        _whole_vcpus(batch, add)
    strategies = _STRATEGIES[resources.type]
    if resources.allocation_strategy is not None and resources.allocation_strategy not in strategies:
        why = (
            "needs a Spot fleet role, which SCAR has not"
            if resources.allocation_strategy == "BEST_FIT"
            else f"is not for {resources.type}"
        )
        add(
            "compute_resources.allocation_strategy",
            f"`{resources.allocation_strategy}` {why} ({_API}, ComputeResource.allocationStrategy)",
            f"Write {' or '.join(strategies)}, or remove the key.",
        )
    for index, name in enumerate(resources.instance_types):
        _instance_type(fn, name, f"compute_resources.instance_types[{index}]", add, warn)
    if batch.enable_gpu:
        _gpu(batch, add)


def _whole_vcpus(batch: Batch, add: Add) -> None:
    what = f"parts of a vCPU are for Fargate only ({_API}, ResourceRequirement.value)"
    add("vcpus", f"{batch.vcpus}: {what}", "Write a whole number, or `compute_resources: {type: FARGATE}`.")


def _instance_type(fn: Function, name: str, key: str, add: Add, warn: Add) -> None:
    wanted = fn.lambda_.architecture
    if (successor := machines.successor_of_unsupported(name)) is not None:
        what = f"Batch's machine images do not run on `{shown(name)}` any more ({_API}, Ec2Configuration.imageType)"
        add(key, what, f"Write `{successor}`, or `default_{wanted}`.")
    elif (actual := machines.architecture(name)) != wanted:
        what = f"`{shown(name)}` has {actual} processors, and the function's image is for {wanted}"
        fix = f"Write `default_{wanted}`, or `lambda: {{architectures: [{actual}]}}`."
        add(key, f"{what} ({_API}, ContainerProperties.image)", fix)
    elif (successor := machines.successor_of_previous(name)) is not None:
        what = f"`{shown(name)}` is of a previous generation, dearer and slower than those since"
        warn(key, what, f"Write `{successor}`, or `default_{wanted}`.")


def _gpu(batch: Batch, add: Add) -> None:
    source = "AWS Batch user guide, gpu-jobs"
    named = batch.compute_resources.instance_types
    without = [name for name in named if not machines.has_gpu(name)]
    fix = "Name families that have some, such as `instance_types: [g4dn, g5, g6]`."
    if not named:
        add("enable_gpu", f"what Batch chooses by itself has no GPU ({source})", fix)
    for name in without:
        key = f"compute_resources.instance_types[{named.index(name)}]"
        if machines.successor_of_unsupported(name) is None:
            add(key, f"`{shown(name)}` has no GPU that a job could have ({source})", fix)
