"""What the chart makes, at work: its pods' programs as processes, with the settings, keys and files they get there."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from chart_cases import AGENTS, TLS
from containers import EXAMPLES, Container, certificate, does_its_work, refuses, until_ready, written
from ports import reserved_port

pytestmark = pytest.mark.anyio

NAME = "demo-pediagents"


class Node:
    """Where the pods are: it makes their volumes of what is in the Secrets and ConfigMaps."""

    def __init__(self, found: dict[str, Any], secrets: dict[str, dict[str, str]], folder: Path) -> None:
        self.found, self.folder, self.port, self.watch = found, folder, reserved_port(), reserved_port()
        own = {key.partition("/")[2]: one["stringData"] for key, one in found.items() if key.startswith("Secret/")}
        self.secrets = {**own, **secrets}

    def container(self, key: str, entrypoint: tuple[str, ...] = ()) -> Container:
        """The only container of that workload. `entrypoint` is what its image has."""
        spec = self.found[key]["spec"]
        pod = spec["template"]["spec"] if "template" in spec else spec
        (container,) = pod["containers"]
        volumes = {volume["name"]: self._volume(key, volume) for volume in pod["volumes"]}
        here = {mount["mountPath"]: str(volumes[mount["name"]]) for mount in container["volumeMounts"]}
        here |= {f"{NAME}:8080": f"127.0.0.1:{self.port}", "--port=9000": "--port=0", "0.0.0.0": "127.0.0.1"}
        command = [*container.get("command", entrypoint), *container.get("args", ())]
        return Container(command, self._environ(container), here)

    def _environ(self, container: dict[str, Any]) -> dict[str, str]:
        environ: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            environ |= self.found[f"ConfigMap/{source['configMapRef']['name']}"]["data"]
            environ |= {"ORCHESTRATOR_WEB_PORT": str(self.port), "ORCHESTRATOR_WEB_WATCH_PORT": str(self.watch)}
        for variable in container.get("env", ()):
            chosen = variable.get("valueFrom", {}).get("secretKeyRef")
            environ[variable["name"]] = (
                self.secrets[chosen["name"]][chosen["key"]] if chosen else variable.get("value", "pod")
            )
        return environ

    def _volume(self, key: str, volume: dict[str, Any]) -> Path:
        folder = self.folder / key.partition("/")[2] / volume["name"]
        match volume:
            case {"secret": source}:
                return written(folder, self._files(source["secretName"], source))
            case {"projected": {"sources": sources}}:
                for source in sources:
                    if "secret" in source:
                        written(folder, self._files(source["secret"]["name"], source["secret"]))
                return folder
            case {"configMap": source}:
                return written(folder, self.found[f"ConfigMap/{source['name']}"]["data"])
            case _:
                return written(folder, {})

    def _files(self, name: str, source: dict[str, Any]) -> dict[str, str]:
        content = self.secrets[name]
        items = source.get("items") or [{"key": key, "path": key} for key in content]
        return {item["path"]: content[item["key"]] for item in items}


@pytest.mark.parametrize("secured", [False, True], ids=["http", "https"])
async def test_what_is_installed_works(secured: bool, render: Any, tmp_path: Path):
    """Orchestrator, both agents and the helm test: each gets in with the key made for it, and nobody without one."""
    claim = {"agents": {**AGENTS["agents"], "embedder": {"enabled": True, "imagesClaim": "images"}}}
    secrets = {"inner-tls": certificate(NAME)} if secured else {}
    node = Node(render({**claim, **(TLS if secured else {})}), secrets, tmp_path)
    orchestrator = node.container(f"Deployment/{NAME}", ("orchestrator",))
    agents = [node.container(f"Deployment/{NAME}-{name}") for name in ("embedder", "modelreasoner")]
    shutil.copy(EXAMPLES / "images/retina.png", tmp_path / f"{NAME}-embedder/data")
    smoke = node.container(f"Pod/{NAME}-smoke")
    (url,) = (word for word in smoke.argv() if word.startswith("http"))
    trust = {name: value for name, value in smoke.environment().items() if name.endswith("CA_FILE")}
    async with orchestrator.running(tmp_path):
        await until_ready(url, trust)
        await until_ready(url.replace(f":{node.port}", f":{node.watch}"), trust)
        await refuses(url, trust)
        async with agents[0].running(tmp_path), agents[1].running(tmp_path):
            await does_its_work(url, {**trust, "ORCHESTRATOR_API_KEY": node.secrets[f"{NAME}-keys"]["operator"]})
            done = await smoke.ends(tmp_path)
            assert (done.returncode, done.stdout.count(b"ok: ")) == (0, 8), done
            smoke.environ = {**smoke.environ, "ORCHESTRATOR_TOKEN": node.secrets[f"{NAME}-keys"]["embedder"]}
            assert (await smoke.ends(tmp_path)).returncode == 1
