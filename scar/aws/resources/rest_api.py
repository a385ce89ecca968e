"""The REST API of one function in API Gateway: the API, its routes, what its stage serves, leave to invoke the function, and its API key.

Names of APIs are not unique, so the API is known by its tag. All else hangs on it: it is made first and goes last, and whoever finds no API
of the function finds nothing of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from botocore.exceptions import ClientError

from scar.aws import tags
from scar.aws.clients import Aws
from scar.aws.errors import code_of, is_absent
from scar.aws.resources import rest_api_key
from scar.aws.resources.grant import Grant
from scar.aws.resources.rest_api_routes import Route, put_routes, routes
from scar.aws.rest_apis import mine
from scar.aws.tags import Pairs
from scar.aws.wait import until
from scar.plan.resource import Id

_Answer = TypeVar("_Answer")

# Every body is binary to API Gateway: what comes in reaches the function byte for byte.
BINARY: Final = ("*/*",)
SID: Final = "scar-api-gateway"
# DeleteRestApi is taken once in 30 s, CreateRestApi once in 3 s, CreateDeployment once in 5 s; source: apigateway/latest/developerguide/limits
BUSY_DEADLINE_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class RestApi:
    """`stage` and `auth` are in its tags too, so that whoever lists APIs need not ask for each. `serves` is the digest of the routes that the stage
    serves: routes that were changed and not deployed have no effect.

    `granted`: the function lets exactly this API, stage and method invoke it. `surplus` counts further APIs that bear our tag, made by two
    commands at once. `keyed`: the API key is there and opens this stage (`auth: api_key`), or nothing is left of one.
    """

    name: str
    function: str
    stage: str
    auth: str
    routes: tuple[Route, ...]
    tags: Pairs
    serves: str
    granted: bool = True
    keyed: bool = True
    binary: tuple[str, ...] = BINARY
    surplus: int = 0
    after: tuple[Id, ...] = field(default=(), compare=False)

    @property
    def id(self) -> Id:
        return Id("rest api", self.function)

    @property
    def needs(self) -> tuple[Id, ...]:
        return self.after

    @property
    def note(self) -> str:
        return {"iam": "callers sign their requests", "api_key": "callers send an API key"}.get(self.auth, self.aloud)

    @property
    def aloud(self) -> str:
        return "public: anyone on the internet can run it" if self.auth == "none" else ""

    def read(self, aws: Aws) -> RestApi | None:
        found = mine(aws, self.function)
        if not self.routes:  # looked for, not wanted: a key may be left of an API that somebody has deleted
            left = found or (self.auth == "api_key" and rest_api_key.is_left(aws, self.function))
            return replace(self, name=found[0]["name"] if found else "") if left else None
        if not found:
            return None
        api = found[0]
        said = dict(tags.pairs(api.get("tags") or {}))
        stage = said.get(tags.STAGE, self.stage)
        return replace(
            self,
            name=api["name"],
            stage=stage,
            auth=said.get(tags.AUTH, ""),
            routes=routes(aws, api["id"]),
            tags=tags.pairs(said),
            serves=_served(aws, api["id"], stage),
            granted=self._grant(aws, api["id"]).given(aws),
            keyed=self._has_key_as_wanted(aws, api["id"], stage, said.get(tags.AUTH, "")),
            binary=tuple(api.get("binaryMediaTypes") or ()),
            surplus=len(found) - 1,
        )

    def create(self, aws: Aws) -> None:
        """Goes on with the API that an earlier try has left, if there is one."""
        actual = self.read(aws)
        if actual is not None:
            self.update(aws, actual)
            return
        api = _patiently(
            aws,
            lambda: aws.apigateway.create_rest_api(
                name=self.name,
                description=f"HTTP endpoint of the function {self.function}, made by SCAR",
                endpointConfiguration={"types": ["REGIONAL"]},
                binaryMediaTypes=list(BINARY),
                tags=tags.written(self.tags),
            ),
        )
        put_routes(aws, api["id"], self.routes, root=api.get("rootResourceId"))
        self._deploy(aws, api["id"])
        self._grant(aws, api["id"]).give(aws)
        if self.auth == "api_key":
            rest_api_key.make(aws, self.function, api["id"], self.stage, self.tags)

    def update(self, aws: Aws, actual: RestApi) -> None:
        """The tags change last: as long as anything is left to do, they tell of the stage that was. That there is a key they tell before it is made."""
        api, *surplus = mine(aws, self.function)
        for more in surplus:
            _delete(aws, more["id"])
        arn = f"arn:{aws.partition}:apigateway:{aws.region}::/restapis/{api['id']}"
        self._describe(aws, api["id"], actual)
        if actual.routes != self.routes:
            put_routes(aws, api["id"], self.routes)
        if actual.serves != self.serves or actual.stage != self.stage:
            self._deploy(aws, api["id"])
        if self.auth == "api_key":
            if actual.auth != self.auth:
                aws.apigateway.tag_resource(resourceArn=arn, tags={tags.AUTH: self.auth})
            rest_api_key.make(aws, self.function, api["id"], self.stage, self.tags)
        elif actual.auth == "api_key":
            rest_api_key.remove(aws, self.function)
        if actual.stage != self.stage:
            with rest_api_key.passing_over_absence():
                aws.apigateway.delete_stage(restApiId=api["id"], stageName=actual.stage)
        grant = self._grant(aws, api["id"])
        if not grant.given(aws):
            grant.take(aws)
            grant.give(aws)
        if actual.tags != self.tags:
            aws.apigateway.tag_resource(resourceArn=arn, tags=tags.written(self.tags))
            if removed := tags.removed(actual.tags, self.tags):
                aws.apigateway.untag_resource(resourceArn=arn, tagKeys=removed)

    def delete(self, aws: Aws) -> None:
        Grant(self.function, SID).take(aws)
        found = mine(aws, self.function)
        if self.auth == "api_key" or any(dict(api["tags"]).get(tags.AUTH) == "api_key" for api in found):
            rest_api_key.remove(aws, self.function)
        for api in reversed(found):
            _delete(aws, api["id"])

    def _has_key_as_wanted(self, aws: Aws, api_id: str, stage: str, auth: str) -> bool:
        """Asks only where there is a key, or should be."""
        if self.auth == "api_key":
            return rest_api_key.opens(aws, self.function, api_id, stage)
        return auth != "api_key"

    def _describe(self, aws: Aws, api_id: str, actual: RestApi) -> None:
        patches = [] if actual.name == self.name else [{"op": "replace", "path": "/name", "value": self.name}]
        media = [(op, kind) for op, kinds in (("add", self.binary), ("remove", actual.binary)) for kind in kinds]
        for op, kind in media:
            if (kind in self.binary) != (kind in actual.binary):
                # A JSON pointer: `/` is written `~1`.
                patches.append({"op": op, "path": f"/binaryMediaTypes/{kind.replace('/', '~1')}"})
        if patches:
            aws.apigateway.update_rest_api(restApiId=api_id, patchOperations=patches)

    def _deploy(self, aws: Aws, api_id: str) -> None:
        _patiently(
            aws,
            lambda: aws.apigateway.create_deployment(
                restApiId=api_id, stageName=self.stage, description=_said(self.serves)
            ),
        )

    def _grant(self, aws: Aws, api_id: str) -> Grant:
        method = "*" if self.routes[0].method == "ANY" else self.routes[0].method
        arn = f"arn:{aws.partition}:execute-api:{aws.region}:{aws.account}:{api_id}/{self.stage}/{method}/*"
        return Grant(self.function, SID, principal="apigateway.amazonaws.com", source_arn=arn)


def digest(wanted: tuple[Route, ...]) -> str:
    """Names what a deployment serves."""
    text = json.dumps([[*route.wire(), list(BINARY)] for route in wanted])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_SAID: Final = "scar "


def _said(digest_: str) -> str:
    return f"{_SAID}{digest_}"


def _served(aws: Aws, api_id: str, stage: str) -> str:
    """The digest of what a stage serves; '' when there is no such stage, or somebody else has deployed to it."""
    try:
        deployment = aws.apigateway.get_stage(restApiId=api_id, stageName=stage).get("deploymentId", "")
        said = aws.apigateway.get_deployment(restApiId=api_id, deploymentId=deployment).get("description", "")
    except ClientError as error:
        if is_absent(error):
            return ""
        raise
    return str(said).removeprefix(_SAID) if str(said).startswith(_SAID) else ""


def _delete(aws: Aws, api_id: str) -> None:
    with rest_api_key.passing_over_absence():
        _patiently(aws, lambda: aws.apigateway.delete_rest_api(restApiId=api_id) or {})


def _patiently(aws: Aws, call: Callable[[], _Answer]) -> _Answer:
    """Some calls API Gateway takes once in many seconds from a whole account; more patience than botocore's, but not without end."""

    def attempt() -> _Answer | None:
        try:
            return call()
        except ClientError as error:
            if code_of(error) == "TooManyRequestsException":
                return None
            raise

    return until(attempt, deadline_s=BUSY_DEADLINE_S, what="API Gateway to take another request", clock=aws.clock)
