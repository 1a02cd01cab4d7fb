"""The deployments in examples/: each is read by its own format's checker, and by the agent whose variables it sets."""

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
from tests.support.servers import binary

EXAMPLES = ROOT / "examples"
KUBERNETES = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
COMPOSE = EXAMPLES / "compose" / "compose.yaml"
UNIT = EXAMPLES / "systemd" / "sluice-monitor.service"
OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.29", "1.37"  # native sidecars are on by default since 1.29


def read_by_the_agent(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings in `variables`; the test fails where one is unknown or malformed."""
    known = {f"SLUICE_{name.upper()}" for name in Settings.model_fields} | options_from_the_environment()
    ours = {name: value for name, value in variables.items() if name.startswith("SLUICE_")}
    assert ours.keys() <= known
    for name in known:
        monkeypatch.delenv(name, raising=False)
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return Settings()


def options_from_the_environment() -> set[str]:
    """The variables that options of our commands are read from."""
    found: set[str] = set()
    for command in main.commands.values():
        for parameter in command.params:
            names = parameter.envvar or ()
            found |= {names} if isinstance(names, str) else set(names)
    return found


def understood(command: list[str]) -> None:
    """The test fails where one of our commands, or an option of it, does not exist."""
    if command[0].endswith("sluice-agent"):
        name, *arguments = command[1:]
        main.commands[name].make_context(name, arguments, resilient_parsing=True)
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("-")} <= known


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod of the Kubernetes examples."""
    for file in KUBERNETES:
        for document in yaml.safe_load_all(file.read_text()):
            if "template" in document.get("spec", {}):
                yield file.name, document["spec"]["template"]["spec"]


def variables(container: dict[str, Any]) -> dict[str, str]:
    """What a container's environment holds; for a secret, something of its kind."""
    secrets = {"SLUICE_API_KEY": "sk_secret", "SLUICE_BROKER_URL": "redis://redis"}
    return {one["name"]: one.get("value") or secrets[one["name"]] for one in container["env"]}


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
@pytest.mark.parametrize("file", KUBERNETES, ids=lambda file: file.name)
def test_kubernetes_takes_it(file: Path, version: str) -> None:
    """A manifest that the API server refuses, or of which it ignores a misspelt field, is worse than none."""
    documents = list(yaml.safe_load_all(file.read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_kubernetes_check_can_fail() -> None:
    """A checker that takes everything checks nothing."""
    document = list(yaml.safe_load_all(KUBERNETES[0].read_text()))[-1]
    document["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, NEWEST_KUBERNETES, strict=True)


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_agent_takes_what_kubernetes_gives_it(
    name: str, pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that does not exist is ignored in silence; a volume that is not shared is a journal nobody ships."""
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    for container in containers:
        settings = read_by_the_agent(variables(container), monkeypatch)
        assert settings.active
        understood(container["args"])
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
    ], "one of a pod knows the key"


def test_compose_takes_it() -> None:
    """By the schema of the compose specification."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    ended = subprocess.run(check, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_agent_takes_what_compose_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for Kubernetes: a misspelt variable, or two users of one journal, and nothing is delivered."""
    compose = yaml.safe_load(COMPOSE.read_text())
    services = {name: one for name, one in compose["services"].items() if "environment" in one}
    assert set(services) == {"worker", "shipper", "monitor"}
    given = {"SLUICE_API_KEY": "sk_secret", "SLUICE_CONNECTION_ID": "00000000-0000-4000-8000-000000000000"}
    for service in services.values():
        told = {name: given.get(name, value) for name, value in service["environment"].items()}
        settings = read_by_the_agent(told, monkeypatch)
        assert settings.active
        understood(service["command"])
        [volume] = service["volumes"]
        name, _, path = volume.partition(":")
        assert name in compose["volumes"]
        assert str(settings.state_dir) == path
        if "healthcheck" in service:
            assert f"http://{settings.health_addr}/readyz" in service["healthcheck"]["test"][-1]
    assert services["worker"]["user"] == services["shipper"]["user"]
    assert services["worker"]["volumes"] == services["shipper"]["volumes"]


def test_systemd_takes_it(tmp_path: Path) -> None:
    """systemd ignores what it does not understand: a unit that it half understands is one that nobody confines."""
    unit = UNIT.read_text()
    program = shlex.split(service_of(unit)["ExecStart"])[0]
    verified = tmp_path / UNIT.name
    verified.write_text(unit.replace(program, sys.executable))  # it is asked whether the program is there
    assert said_by_systemd(verified) == ""
    verified.write_text(unit.replace(program, sys.executable).replace("Restart=always", "Restart=allways"))
    assert "Failed to parse" in said_by_systemd(verified), "a checker that takes everything checks nothing"


def test_the_agent_takes_what_systemd_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for Kubernetes."""
    service = service_of(UNIT.read_text())
    understood(shlex.split(service["ExecStart"]))
    file = (UNIT.parent / "sluice-monitor.env").read_text().splitlines()
    lines = [line for line in file if line and not line.startswith("#")] + shlex.split(service["Environment"])
    lines = [line.replace("%S", "/var/lib") for line in lines]
    settings = read_by_the_agent(dict(line.partition("=")[::2] for line in lines), monkeypatch)
    assert settings.active
    assert str(settings.state_dir) == f"/var/lib/{service['StateDirectory']}"


def service_of(unit: str) -> configparser.SectionProxy:
    """The section that says what runs, and how."""
    sections = configparser.RawConfigParser(strict=False)
    sections.optionxform = str  # type: ignore[assignment,method-assign] - the names of options are as they are
    sections.read_string(unit)
    return sections["Service"]


def said_by_systemd(unit: Path) -> str:
    """What `systemd-analyze verify` finds wrong with a unit: it exits with 0 for most of it."""
    ended = subprocess.run(
        [binary("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    return ended.stderr
