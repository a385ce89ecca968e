"""The function layer beside the agent: the spec, and the script if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from faassupervisor import contract
from faassupervisor.storage import ROLES_OWN, STORAGES, kind_of


@dataclass(frozen=True, slots=True)
class Function:
    """`script` is None when the image's own command is to run."""

    spec: contract.Spec
    script: Path | None = None


def load(root: Path) -> Function:
    """Read the function layer. Raises ContractError when it cannot be served by this agent, OSError when it is not there."""
    spec = contract.Spec.from_json((root / Path(contract.SPEC_PATH).name).read_bytes())
    named = [*(storage.provider for storage in (*spec.inputs, *spec.outputs)), *(each.name for each in spec.providers)]
    for provider in named:
        if kind_of(provider) not in STORAGES:
            raise contract.ContractError(
                f"function spec: storage provider {provider!r}: this agent knows {', '.join(STORAGES)}"
            )
        if provider not in ROLES_OWN and provider not in {each.name for each in spec.providers}:
            raise contract.ContractError(f"function spec: storage provider {provider!r}: it is not among `providers`")
    if spec.root is not None:
        from faassupervisor.roots.sources import expect_known

        expect_known(spec.root.source)
    script = root / Path(contract.SCRIPT_PATH).name
    if spec.has_script and not script.is_file():
        raise contract.ContractError(f"function spec: has_script, but {script} is not there")
    return Function(spec, script if spec.has_script else None)
