"""What is known of EC2 instance types by their names: processor, GPU, and families that are gone or on their way out.

A family that is not known is taken as x86_64 unless its name says Graviton; whether a region has it, only AWS knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

# Batch's own words and the architecture that each stands for; botocore batch:ComputeResource.instanceTypes
BUNDLES: Final = {"optimal": "x86_64", "default_x86_64": "x86_64", "default_arm64": "arm64"}

# With GPUs for which ECS has drivers (NVIDIA), as far as names tell: batch/latest/userguide/gpu-jobs, botocore ec2:InstanceType. G4ad's are
# AMD's; G2, G3, P2 and P3 are below.
_GPU: Final = re.compile(r"g4dn|gr?([5-9]|\d\d)[a-z]*|p([4-9]|\d\d)[a-z]*(-[a-z0-9]+)?")
# Batch starts no machine with Amazon Linux 2 of its own any more (2026-06-30), and what it starts instead (ECS_AL2023, ECS_AL2023_NVIDIA)
# supports none of these: botocore batch:Ec2Configuration.imageType
_UNSUPPORTED: Final = {"a1": "m6g", "g2": "g4dn", "g3": "g4dn", "g3s": "g4dn", "p2": "g5", "p3": "p4d", "p3dn": "p4d"}
# ec2/previous-generation: still there, dearer and slower than what came after them
_PREVIOUS: Final = {
    "m1": "m6i", "m2": "r6i", "m3": "m6i", "c1": "c6i", "c3": "c6i", "cc2": "c6i", "r3": "r6i", "i2": "i4i", "t1": "t3", "cr1": "r6i",
    "hs1": "d3",
}  # fmt: skip


def family(instance_type: str) -> str:
    """`c7i` of `c7i.xlarge`."""
    return instance_type.partition(".")[0]


def architecture(instance_type: str) -> str:
    """x86_64 or arm64. A `g` after the generation's number is for Graviton: m6g, c7gn, im4gn, x2gd; A1 was the first. `-gb` is Grace Blackwell."""
    if instance_type in BUNDLES:
        return BUNDLES[instance_type]
    name = family(instance_type)
    return "arm64" if name == "a1" or re.fullmatch(r"[a-z]+\d+[a-z]*g[a-z]*|.*-gb\d+", name) else "x86_64"


def has_gpu(instance_type: str) -> bool:
    return _GPU.fullmatch(family(instance_type)) is not None


def successor_of_unsupported(instance_type: str) -> str | None:
    """What to take instead of a family that Batch's machine images do not run on."""
    return _UNSUPPORTED.get(family(instance_type))


def successor_of_previous(instance_type: str) -> str | None:
    """What to take instead of a previous generation."""
    return _PREVIOUS.get(family(instance_type))


# Sizes of most families with their vCPUs (ec2/latest/instancetypes); a machine of an HPC family has others, and one of metal any.
_SIZES: Final = (2, 4, 8, 16, 32, 48, 64, 96, 128, 192)
_SMALL: Final = {"large": 2, "xlarge": 4}
_BURST: Final = re.compile(r"t\d[a-z]*")


def vcpus(instance_type: str) -> int | None:
    """vCPUs of a machine, as far as its name tells: `c7i.4xlarge` has 16. None for a family, and where the name does not tell."""
    name, dot, size = instance_type.partition(".")
    if not dot or name.startswith("hpc"):
        return None
    if size in {"nano", "micro", "small", "medium"}:
        return 2 if _BURST.fullmatch(name) else 1
    found = re.fullmatch(r"(\d+)xlarge", size)
    return 4 * int(found[1]) if found else _SMALL.get(size)


def least_vcpus(instance_types: Sequence[str], architecture_: str) -> int:
    """vCPUs that the smallest machine has for certain, where one may choose among these; Graviton's families begin with one."""
    smallest = 1 if architecture_ == "arm64" else 2
    return min((vcpus(name) or smallest for name in instance_types), default=smallest)


def likely_vcpus(instance_types: Sequence[str], architecture_: str, wanted: int, memory_mib: int) -> int:
    """vCPUs of the largest machine that Batch may well take for a job of one node: a bound to plan with, not a promise.

    Of a family it takes a size that has the vCPUs and the memory: compute families have 2 GiB a vCPU, and some of that is the machine's own.
    """
    exact = [vcpus(name) for name in instance_types if "." in name]
    if None in exact:
        return max(_SIZES[-1], wanted)
    named = [count for count in exact if count is not None]
    need = max(wanted, least_vcpus(instance_types, architecture_), -(-memory_mib // 1800))
    of_family = next((size for size in _SIZES if size >= need), need)
    families = len(named) < len(instance_types) or not instance_types
    return max([wanted, *named, *([of_family] if families else [])])
