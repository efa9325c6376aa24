"""What the tests of deploy/ share: where it is, and the chart as Helm's own engine renders it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
Values = dict[str, Any]
Render = Callable[..., dict[str, Manifest]]


@pytest.fixture(scope="session")
def deploy() -> Path:
    return Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture(scope="session")
def path(deploy: Path) -> Path:
    """The chart."""
    return deploy / "charts/pediagents"


@pytest.fixture(scope="session")
def helm() -> Any:
    """Helm's engine, as a library; no cluster."""
    return pytest.importorskip("helm_python", reason="NOT CHECKED: Helm's engine has no build for this platform")


@pytest.fixture(scope="session")
def chart(helm: Any, path: Path) -> Iterator[Any]:
    with helm.Chart.load(path) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart: Any) -> Render:
    """The manifests, by kind and name, for these values; `again` as another installation makes them."""
    known: dict[str, dict[str, Manifest]] = {}

    def rendered(values: Values, *, again: bool = False) -> dict[str, Manifest]:
        text = json.dumps(values, sort_keys=True)
        if again or text not in known:
            known[text] = _rendered(chart, values)
        return known[text]

    return rendered


def _rendered(chart: Any, values: Values) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    chart.validate_schema(values)
    for file, text in chart.render(values, name="demo", namespace="clinic").items():
        if file.endswith(".yaml"):
            for manifest in yaml.safe_load_all(text):
                if manifest:
                    key = f"{manifest['kind']}/{manifest['metadata']['name']}"
                    assert key not in found, f"{key} is there twice"
                    found[key] = manifest
    return found
