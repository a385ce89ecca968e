"""What is put off until it is needed still works when it is."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from local_daemon import Running

GOOD = {
    "openapi": "3.0.0",
    "info": {"title": "thumbs", "description": "makes them", "version": "1"},
    "paths": {"/thumb": {"get": {"responses": {"200": {"description": "a thumb"}}}}},
}
BAD = GOOD | {"paths": {"/thumb": {"get": {}}}}


def test_a_document_of_openapi_becomes_an_apis_resources_and_a_wrong_one_is_refused_with_what_is_wrong(
    shared: Running,
) -> None:
    gateway = shared.client("apigateway")
    api = gateway.create_rest_api(name="thumbs")["id"]
    for _ in range(2):  # the validator is there from the second time on
        with pytest.raises(ClientError, match=r"Failed to parse the uploaded OpenAPI document due to: .*responses"):
            gateway.put_rest_api(restApiId=api, failOnWarnings=True, mode="overwrite", body=json.dumps(BAD))
        gateway.put_rest_api(restApiId=api, failOnWarnings=True, mode="overwrite", body=json.dumps(GOOD))
        paths = {item["path"] for item in gateway.get_resources(restApiId=api)["items"]}
        assert paths == {"/", "/thumb"}


def test_services_that_are_asked_for_the_first_time_answer_as_ever(shared: Running) -> None:
    topic = shared.client("sns").create_topic(Name="late")["TopicArn"]
    assert topic in {entry["TopicArn"] for entry in shared.client("sns").list_topics()["Topics"]}
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        shared.client("lambda").get_function(FunctionName="absent")
