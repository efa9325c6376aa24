"""The description of the API: valid, whole, and shown by a page that needs nobody else."""

import hashlib
import json
from importlib import resources

import pytest
from openapi_spec_validator import validate

from orchestrator.domain.errors import OrchestratorError
from orchestrator.testing import Service
from orchestrator.web.openapi import description
from orchestrator.web.problems import HTTP_CODES, STATUS

pytestmark = pytest.mark.anyio

WEB = resources.files("orchestrator.web")
SWAGGER = WEB.joinpath("swagger")


def test_the_description_is_valid() -> None:
    """By the schema of OpenAPI 3.1, every reference included."""
    validate(description())


def test_the_description_names_every_code() -> None:
    """Each that a problem can bear, so that a client can know them all."""
    codes = description()["components"]["schemas"]["Problem"]["properties"]["code"]["examples"]
    ours = {error.code for error in STATUS} | {OrchestratorError.code}
    assert set(codes) == ours | set(HTTP_CODES.values())


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
