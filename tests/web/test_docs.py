"""The description of the API: valid, whole, and shown by a page that needs nobody else."""

import hashlib
import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from described import validator_of
from openapi_spec_validator import validate

from orchestrator.domain.errors import OrchestratorError
from orchestrator.testing import Service
from orchestrator.web.openapi import description
from orchestrator.web.problems import HTTP_CODES, STATUS
from orchestrator.web.rights import RIGHTS

pytestmark = pytest.mark.anyio

WEB = resources.files("orchestrator.web")
SWAGGER = WEB.joinpath("swagger")


def test_the_description_is_valid() -> None:
    """By the schema of OpenAPI 3.1, every reference included."""
    validate(description())


def test_the_description_names_every_code() -> None:
    """Each that a problem can bear, so that a client can know them all."""
    codes = description()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    ours = {error.code for error in STATUS} | {OrchestratorError.code}
    assert set(codes) == ours | set(HTTP_CODES.values())


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything that is said or answered in some media type, and where."""
    document = description()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            told = operation.get("requestBody", {}).get("content", {})
            yield from ((f"{method} {path} {kind}", content) for kind, content in told.items())
            for status, response in operation["responses"].items():
                for kind, content in response.get("content", {}).items():
                    yield f"{method} {path} {status} {kind}", content
    for status, response in document["components"]["responses"].items():
        yield from ((f"{status} {kind}", content) for kind, content in response["content"].items())


def test_the_examples_are_what_they_are_examples_of() -> None:
    """Each fits its schema, and shows no field that the schema does not name; all that is JSON has one."""
    for where, content in contents():
        examples = [it["value"] for it in content.get("examples", {}).values()]
        examples += [content["example"]] if "example" in content else []
        assert examples or "json" not in where or "/openapi.json" in where, where
        for example in examples:
            flaws = list(validator_of(content["schema"], strict=True).iter_errors(example))
            assert not flaws, (where, flaws)


def test_each_call_says_who_may_call_it_and_what_it_answers() -> None:
    """With the scope it needs, by each way to say who asks; with a schema for every status; streams by their types."""
    document = description()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            scope = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", it): scope for it, scope in RIGHTS.items()}[
                f"{method.upper()} {path}"
            ]
            wanted = None if scope is None else [{"bearer": [scope.value]}, {"certificate": [scope.value]}]
            assert operation.get("security") == wanted, path
            for status, response in operation["responses"].items():
                if "$ref" not in response:
                    assert all(content["schema"] for content in response["content"].values()), (path, status)
    assert set(document["components"]["securitySchemes"]) == {"bearer", "certificate"}
    events = document["paths"]["/task/{task_id}/events"]["get"]["responses"]["200"]["content"]
    assert list(events) == ["text/event-stream"]
    batch = document["paths"]["/route_tasks"]["post"]["requestBody"]["content"]
    assert list(batch) == ["application/json", "application/x-ndjson"]


async def test_the_page_and_its_files(service: Service) -> None:
    """Come from here, under a policy that lets no other script run; nothing else is a file."""
    page = await service.ask("GET", "/docs")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = page.body.decode()
    assert "://" not in text
    assert "<script>" not in text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert f"docs/{name}" in text
        reply = await service.ask("GET", f"/docs/{name}")
        assert (reply.status, reply.body) == (200, SWAGGER.joinpath(name).read_bytes())
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    for name in ("vendored.json", "..%2fapp.py", "nothing.js"):
        assert (await service.ask("GET", f"/docs/{name}")).status == 404


@pytest.mark.parametrize("folder", ["swagger", "dashboard/vendor"])
def test_the_vendored_files_are_those_of_the_manifest(folder: str) -> None:
    """Byte for byte what the packages held when they were taken, each with its licence, and none beside them."""
    held = {file.name: file.read_bytes() for file in WEB.joinpath(folder).iterdir()}
    manifest = json.loads(held.pop("vendored.json"))
    held.pop("start.js", None)  # Ours.
    assert all(package["integrity"].startswith("sha512-") for package in manifest)
    assert all(any("LICENSE" in name for name in package["sha256"]) for package in manifest)
    checksums = {name: checksum for package in manifest for name, checksum in package["sha256"].items()}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in held.items()} == checksums
