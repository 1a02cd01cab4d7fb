"""The deployments in examples/: checked by the validators of their formats, and by the agent's settings."""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sluice_agent.cli import main
from sluice_agent.settings import Settings
from tests.support.process import ROOT

EXAMPLES = ROOT / "examples"
KUBERNETES = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
COMPOSE = EXAMPLES / "compose" / "compose.yaml"
UNIT = EXAMPLES / "systemd" / "sluice-monitor.service"
OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.29", "1.37"  # native sidecars are on by default since 1.29


def settings_from(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings in `variables`; fail if one is unknown or malformed."""
    known = {f"SLUICE_{name.upper()}" for name in Settings.model_fields} | variables_of_options()
    agent_variables = {name: value for name, value in variables.items() if name.startswith("SLUICE_")}
    assert agent_variables.keys() <= known
    for name in known:
        monkeypatch.delenv(name, raising=False)
    for name, value in agent_variables.items():
        monkeypatch.setenv(name, value)
    return Settings()


def variables_of_options() -> set[str]:
    """Return the variables from which options of our commands are read."""
    names_of_options: set[str] = set()
    for command in main.commands.values():
        for parameter in command.params:
            names = parameter.envvar or ()
            names_of_options |= {names} if isinstance(names, str) else set(names)
    return names_of_options


def check_command(command: list[str]) -> None:
    """Fail if `command` is one of ours and does not exist, or has no such option."""
    if command[0].endswith("sluice-agent"):
        name, *arguments = command[1:]
        main.commands[name].make_context(name, arguments, resilient_parsing=True)
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("-")} <= known


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every pod of the Kubernetes examples."""
    for file in KUBERNETES:
        for document in yaml.safe_load_all(file.read_text()):
            if "template" in document.get("spec", {}):
                yield file.name, document["spec"]["template"]["spec"]


def variables(container: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a container, with a placeholder for every secret."""
    secrets = {"SLUICE_API_KEY": "sk_secret", "SLUICE_BROKER_URL": "redis://redis"}
    return {entry["name"]: entry.get("value") or secrets[entry["name"]] for entry in container["env"]}


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
@pytest.mark.parametrize("file", KUBERNETES, ids=lambda file: file.name)
def test_kubernetes_accepts_it(file: Path, version: str) -> None:
    """A manifest that the API server refuses, or of which it ignores a misspelt field, is worse than none."""
    documents = list(yaml.safe_load_all(file.read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_kubernetes_check_can_fail() -> None:
    """A validator that accepts everything checks nothing."""
    document = list(yaml.safe_load_all(KUBERNETES[0].read_text()))[-1]
    document["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, NEWEST_KUBERNETES, strict=True)


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_agent_accepts_the_variables_of_kubernetes(
    name: str, pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that does not exist is ignored silently; a journal on a volume that is not shared is never shipped."""
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    for container in containers:
        settings = settings_from(variables(container), monkeypatch)
        assert settings.active
        check_command(container["args"])
        [mount] = container["volumeMounts"]
        assert str(settings.state_dir) == mount["mountPath"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        ports = [port["containerPort"] for port in container.get("ports", ())]
        assert ports == ([int(settings.health_addr.rpartition(":")[2])] if settings.health_addr else [])
        for probe in (container.get("livenessProbe"), container.get("readinessProbe")):
            assert probe is None or probe["httpGet"]["port"] == container["ports"][0]["name"]
    assert len({container["volumeMounts"][0]["name"] for container in containers}) == 1
    assert {variables(container)["SLUICE_CONNECTION_ID"] for container in containers} == {
        "00000000-0000-4000-8000-000000000000"
    }
    assert [container["name"] for container in containers if "SLUICE_API_KEY" in variables(container)] == [
        containers[0]["name"]
    ], "one container of a pod has the key"


def test_compose_accepts_it() -> None:
    """Docker refuses a file that violates the schema of the compose specification."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_agent_accepts_the_variables_of_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for Kubernetes: with a misspelt variable, or two users of one journal, nothing is delivered."""
    compose = yaml.safe_load(COMPOSE.read_text())
    services = {name: service for name, service in compose["services"].items() if "environment" in service}
    assert set(services) == {"worker", "shipper", "monitor"}
    values = {"SLUICE_API_KEY": "sk_secret", "SLUICE_CONNECTION_ID": "00000000-0000-4000-8000-000000000000"}
    for service in services.values():
        environment = {name: values.get(name, value) for name, value in service["environment"].items()}
        settings = settings_from(environment, monkeypatch)
        assert settings.active
        check_command(service["command"])
        [volume] = service["volumes"]
        name, _, path = volume.partition(":")
        assert name in compose["volumes"]
        assert str(settings.state_dir) == path
        if "healthcheck" in service:
            assert f"http://{settings.health_addr}/readyz" in service["healthcheck"]["test"][-1]
    assert services["worker"]["user"] == services["shipper"]["user"]
    assert services["worker"]["volumes"] == services["shipper"]["volumes"]


def test_the_agent_accepts_the_variables_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for Kubernetes."""
    service = service_section(UNIT.read_text())
    check_command(shlex.split(service["ExecStart"]))
    file = (UNIT.parent / "sluice-monitor.env").read_text().splitlines()
    lines = [line for line in file if line and not line.startswith("#")] + shlex.split(service["Environment"])
    lines = [line.replace("%S", "/var/lib") for line in lines]
    settings = settings_from(dict(line.partition("=")[::2] for line in lines), monkeypatch)
    assert settings.active
    assert str(settings.state_dir) == f"/var/lib/{service['StateDirectory']}"


def service_section(unit: str) -> configparser.SectionProxy:
    """Return the section `Service` of a unit."""
    sections = configparser.RawConfigParser(strict=False)
    sections.optionxform = str  # type: ignore[assignment,method-assign] - option names keep their case
    sections.read_string(unit)
    return sections["Service"]
