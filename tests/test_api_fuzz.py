"""schemathesis sends whatever the schema allows, and more. Nothing may fail, and every answer keeps to the schema."""

import json
from collections import Counter
from contextlib import suppress

import hypothesis.strategies as st
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from starlette.testclient import TestClient

from api_server import METRICS, data_uri, engines, pictured
from emoreason.apps.api.app import ApiSettings, create_app

EXAMPLES = 80  # a kind of request
AS_JSON = {"Content-Type": "application/json"}
CHECKS = [not_a_server_error, response_schema_conformance, content_type_conformance]


@pytest.fixture(scope="module")
def app():
    return create_app(engines(), ApiSettings(max_pictures=4), METRICS)


@pytest.fixture(scope="module")
def schema(app):
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_nothing_fails(schema, mode):
    """Requests that fit the schema, and requests that do not."""
    seen = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        def sends(case):
            response = case.call()
            seen[case.operation.label, response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        with suppress(Unsatisfiable):  # an address that takes nothing cannot be asked wrongly
            sends()
    posted = {status for (label, status) in seen if label.startswith("POST")}
    assert 400 in posted and (mode is GenerationMode.NEGATIVE or 200 in posted), seen


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(question=st.text(max_size=60), labels=st.lists(st.text(max_size=12), min_size=2, max_size=4) | st.none())
def test_any_words_are_answered_or_refused(app, question, labels):
    """These do reach the model: a picture, labels of any letters, and a question of any letters about it."""
    body = {"messages": [pictured(question)], "labels": labels, "stop": ["."], "max_tokens": 8}
    with TestClient(app) as client:
        answer = client.post("/v1/chat/completions", content=json.dumps(body), headers=AS_JSON)  # lone surrogates too
    assert answer.status_code == 200 or (answer.status_code == 400 and "labels" in answer.json()["error"]["param"])


def test_fuzzing_would_notice(app):
    """The same requests do reach the model."""
    with TestClient(app) as client:
        answer = client.post("/v1/emotions", json={"images": [data_uri()]})
    assert answer.json()["data"][0]["faces"]
