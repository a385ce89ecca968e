"""What is an attempt of a job told? Its orders, from the job's record, its definition, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from scar.local.batch.attempt import Order
from scar.local.batch.capacity import is_fargate
from scar.local.batch.job import Job
from scar.local.batch.properties import container_of, tags_of, timeout_s_of
from scar.local.batch.ranges import segments
from scar.local.batch.records import ComputeEnvironment, JobDefinition, JobQueue, Region

_TAGS: Final = 50  # botocore batch:SubmitJobRequest.propagateTags
TOO_MANY_TAGS: Final = f"The job and its definition have more than {_TAGS} tags together"


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt that is about to begin. Read with `Region.lock` held."""

    region: Region
    job: Job
    queue: JobQueue
    environment: ComputeEnvironment
    definition: JobDefinition | None

    @property
    def order(self) -> Order:
        """Of a job that has one container. New at each asking; time limits are the scheduler's to add."""
        return self._order(self._registered, self.job.asked, self.job.id, self._array())

    @property
    def node_orders(self) -> list[Order]:
        """Of each node, by index; new at each asking. Source of the variables: batch/latest/userguide/mnp-env-vars"""
        job, nodes = self.job, self.job.nodes
        assert nodes is not None
        told = {"AWS_BATCH_JOB_NUM_NODES": str(nodes.count), "AWS_BATCH_JOB_MAIN_NODE_INDEX": str(nodes.main)}
        return [
            self._order(
                one.definition, one.request, f"{job.id}#{index}", {**told, "AWS_BATCH_JOB_NODE_INDEX": str(index)}
            )
            for one in segments(self._registered, job.asked)
            for index in one.nodes
        ]

    @property
    def timeout_s(self) -> int | None:
        """Of the whole job, in AWS's seconds."""
        return timeout_s_of(self._registered, self.job.asked)

    @property
    def has_too_many_tags(self) -> bool:
        """Whether the task would have more than it may; Batch looks only when the job starts."""
        definition = self.definition
        registered = {} if definition is None else {**definition.request, "tags": definition.tags}
        tags, wanted = tags_of(registered, self.job.asked)
        return wanted and len(tags) > _TAGS

    def begun(self, order: Order) -> dict[str, Any]:
        """The attempt as the job's record has it from now on; `instance` is not told."""
        cluster = f"{self.environment.name}_Batch_{self.environment.uuid}"
        task = self.region.arn("").replace(":batch:", ":ecs:") + f"task/{cluster}/{order.task}"
        return {"container": {"taskArn": task}, "instance": order.instance}

    @property
    def _registered(self) -> Mapping[str, Any]:
        return {} if self.definition is None else self.definition.request

    def _array(self) -> Mapping[str, str]:
        job = self.job
        if job.index is None or job.parent is None:
            return {}
        return {"AWS_BATCH_JOB_ARRAY_INDEX": str(job.index), "AWS_BATCH_JOB_ARRAY_SIZE": str(job.parent.size)}

    def _order(
        self, registered: Mapping[str, Any], request: Mapping[str, Any], job_id: str, told: Mapping[str, str]
    ) -> Order:
        return Order(
            account=self.region.account,
            region=self.region.region,
            job_id=job_id,
            number=len(self.job.attempts) + 1,
            queue=self.queue.name,
            environment=self.environment.name,
            fargate=is_fargate(self.environment),
            definition_name="" if self.definition is None else self.definition.name,
            definition=registered,
            request=request,
            container=container_of(registered, request),
            told=told,
        )
