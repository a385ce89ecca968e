"""What stays from one invocation to the next: the function, the clients, the mode, and what lay in the temporary directory at the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from faassupervisor import environ, workspace
from faassupervisor.aws import Aws
from faassupervisor.deadline import Deadline
from faassupervisor.errors import AgentError, NotReusableError
from faassupervisor.function import Function
from faassupervisor.log import Log
from faassupervisor.modes import MODES, Mode
from faassupervisor.runners import RUNNERS, Runner, Setting, tree
from faassupervisor.storage import Stores
from faassupervisor.workspace import Workspace

if TYPE_CHECKING:
    from faassupervisor.roots.inside import Inside
    from faassupervisor.roots.root import Root

# Lambda's init phase has a whole processor whatever the memory size, so that a small function gets its image several times sooner than
# at its first event. But it ends after 10 s (lambda/latest/dg/lambda-runtime-environment) and then begins again as part of
# the first event. So we stop before, and try only what fits: at 100 MB/s, which one stream and one processor reach.
_INIT_S: Final = 7.0
_INIT_BYTES: Final = 600 * 1024 * 1024


class Sandbox:
    """One function in one place. `mode` is the function's own in Lambda; elsewhere the door knows better: nothing is handed over there."""

    def __init__(
        self,
        surroundings: environ.Surroundings,
        function: Function,
        *,
        mode: Callable[[Sandbox], Mode] | None = None,
    ) -> None:
        self.surroundings = surroundings
        self.function = function
        self.aws = Aws(surroundings.variables)
        self.stores = Stores(self.aws, function.spec.providers)
        self.mode = (mode or MODES[function.spec.mode])(self)
        self.adopts_orphans = tree.become_keeper()
        self.instance_ip = environ.instance_ip()
        self.reusable = True
        workspace.sweep(surroundings.temporary)
        self._kept = workspace.names(surroundings.temporary)
        self._root = self._make_root()

    def sweep(self, log: Log) -> None:
        """Leave the temporary directory as it was at the start, as far as it is ours."""
        temporary = self.surroundings.temporary
        try:
            removed = (
                workspace.remove_all_but(temporary, self._kept | (self._root.names() if self._root else frozenset()))
                if self.surroundings.owns_temporary
                else workspace.sweep(temporary)
            )
        except OSError as error:
            raise NotReusableError(
                f"{temporary} could not be cleaned: {error.strerror}: this sandbox is given up"
            ) from error
        if removed:
            log.debug("removed what was left in the temporary directory", entries=removed)

    def warm(self, log: Log) -> None:
        """Make the clients that runs here will surely need, and unpack the image, while nobody waits yet.

        What cannot be done in time, or fails, is left to the first event, whose caller can be told.
        """
        for storage in (*self.function.spec.inputs, *self.function.spec.outputs):
            self.stores.of(storage.provider)
        root = self.function.spec.root
        if root is not None and root.unpacked_bytes <= _INIT_BYTES:
            try:
                self.files(Deadline(_INIT_S, 0), log)
            except AgentError as error:
                log.warning("the image is not unpacked yet: the first event does it", reason=error.message)

    def files(self, deadline: Deadline, log: Log) -> Inside | None:
        """The image's files as they were built; None where the agent runs inside the image. See `Root.ready`."""
        return self._root.ready(deadline, log) if self._root else None

    def runner(self, inside: Inside | None, place: Workspace, log: Log) -> Runner:
        make = RUNNERS["fakechroot" if inside else "process"]
        return make(Setting(self.function.spec, place, log, inside, self.surroundings.fakechroot))

    def _make_root(self) -> Root | None:
        image = self.function.spec.root
        if image is None:
            return None
        from faassupervisor.roots.root import Root

        return Root(image, self.surroundings.temporary, self.stores)
