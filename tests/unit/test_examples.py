"""The deployments in examples/: checked by the validators of their formats, and by our settings and commands."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import kubernetes_validate
import pytest
import yaml

from sluice_agent.cli import main
from sluice_agent.server.access.exposure import exposure_of
from sluice_agent.server.app import BODY_LIMIT
from sluice_agent.server.runner import GRACE
from sluice_agent.server.stream.limits import STREAM_LIMITS
from sluice_agent.settings import Settings
from sluice_agent.settings import variables as settings_variables
from tests.support.process import ROOT

EXAMPLES = ROOT / "examples"
KUBERNETES = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
COMPOSE = EXAMPLES / "compose" / "compose.yaml"
SERVERS_COMPOSE = EXAMPLES / "compose" / "server.yaml"
BALANCER = EXAMPLES / "compose" / "nginx.conf"
SERVERS_KUBERNETES = EXAMPLES / "kubernetes" / "server.yaml"
UNIT = EXAMPLES / "systemd" / "sluice-monitor.service"
OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.29", "1.37"  # native sidecars are on by default since 1.29


def settings_from(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings in `variables`; fail if one is unknown or malformed."""
    known = settings_variables().keys() | variables_of_options()
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
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            names = parameter.envvar or ()
            names_of_options |= {names} if isinstance(names, str) else set(names)
    return names_of_options


def check_command(command: list[str]) -> None:
    """Fail if `command` is one of ours and does not exist, or has no such option."""
    if command[0].endswith("sluice-agent"):
        options_of(command)


def options_of(command: list[str]) -> dict[str, Any]:
    """Return the options of one of our commands, as it reads them."""
    program, name, *arguments = command
    assert program.endswith("sluice-agent")
    try:
        found = main.get_command(click.Context(main), name)
        assert found is not None, name
        return found.make_context(name, arguments).params
    except click.UsageError as error:
        pytest.fail(error.format_message())


def agent_pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every pod of the Kubernetes examples but that of the server."""
    for file in KUBERNETES:
        for document in yaml.safe_load_all(file.read_text()):
            if "template" in document.get("spec", {}) and file != SERVERS_KUBERNETES:
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


@pytest.mark.parametrize(("name", "pod"), list(agent_pods()), ids=lambda value: value if isinstance(value, str) else "")
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


@pytest.mark.parametrize("file", [COMPOSE, SERVERS_COMPOSE], ids=lambda file: file.name)
def test_compose_accepts_it(file: Path) -> None:
    """Docker refuses a file that violates the schema of the compose specification."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
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


def check_server(options: dict[str, Any], environment: dict[str, str], names: set[str]) -> None:
    """Fail if a server with these options and variables shares no database, or does not answer to `names`."""
    assert environment.keys() <= variables_of_options()
    assert environment["SLUICE_DATABASE"].startswith("postgresql://")
    assert environment["SLUICE_API_KEY"].startswith("sk_")
    assert UUID(options["connection"]), "with a key of a connection that has a name only, workers lack its id"
    exposure = exposure_of(options["host"], options["allow_host"])
    assert exposure.is_open
    assert {name for name in names if not exposure.allows_host(name)} == set()


def test_servers_of_compose_share_a_database_behind_a_balancer() -> None:
    """A sign-in at one server would be unknown to the other, or the balancer hold back the stream or large batches."""
    services = yaml.safe_load(SERVERS_COMPOSE.read_text())["services"]
    server, balancer, configuration = services["server"], services["balancer"], BALANCER.read_text()
    values = {"SLUICE_CONNECTION_ID": "00000000-0000-4000-8000-000000000000", "SLUICE_API_KEY": "sk_secret"}
    options = options_of([filled_in(argument, values) for argument in server["command"]])
    environment = {name: filled_in(value, values) for name, value in server["environment"].items()}
    check_server(options, environment, {"localhost:8787", "127.0.0.1"})
    assert server["deploy"]["replicas"] > 1
    assert f"http://127.0.0.1:{options['port']}/api/health" in server["healthcheck"]["test"][-1]
    assert int(server["stop_grace_period"].removesuffix("s")) > GRACE
    assert balancer["volumes"] == [f"./{BALANCER.name}:/etc/nginx/nginx.conf:ro"]
    directives = dict(re.findall(r"^ *(\w+(?: \$?[A-Z][\w-]+| \$\w+)?) (.+?);", configuration, re.MULTILINE))
    assert directives["set $servers"] == f"server:{options['port']}"
    assert balancer["ports"] == [f"8787:{directives['listen']}"]
    assert int(directives["client_max_body_size"].removesuffix("m")) * 1024**2 >= BODY_LIMIT
    assert int(directives["proxy_read_timeout"].removesuffix("s")) > STREAM_LIMITS.heartbeat
    expected = {
        "proxy_buffering": "off",
        "proxy_http_version": "1.1",
        "proxy_set_header Host": "$http_host",
        "proxy_set_header X-Forwarded-Proto": "$scheme",
        "proxy_set_header X-Forwarded-For": "$proxy_add_x_forwarded_for",
    }
    assert expected.items() <= directives.items()


def filled_in(text: str, values: dict[str, str]) -> str:
    """Return `text` with the variables of compose replaced: by a value, the default, or ``x``."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?[^}]*\}", lambda match: values.get(match[1], match[2] or "x"), text)


def test_servers_of_kubernetes_share_a_database_behind_a_service() -> None:
    """A name that does not match sends no request to a pod, or has each refused; without the budget an upgrade of nodes
    ends all servers at a time."""
    kinds = {document["kind"]: document for document in yaml.safe_load_all(SERVERS_KUBERNETES.read_text())}
    secret, service, ingress = kinds["Secret"], kinds["Service"], kinds["Ingress"]["spec"]
    deployment, budget = kinds["Deployment"]["spec"], kinds["PodDisruptionBudget"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    environment = {}
    for entry in container["env"]:
        reference = entry["valueFrom"]["secretKeyRef"]
        assert reference["name"] == secret["metadata"]["name"]
        environment[entry["name"]] = secret["stringData"][reference["key"]]
    options = options_of(container["args"])
    [rule] = ingress["rules"]
    check_server(options, environment, {rule["host"], service["metadata"]["name"], "10.1.2.3:8787"})
    assert ingress["tls"][0]["hosts"] == [rule["host"]]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert (backend["name"], backend["port"]) == (service["metadata"]["name"], {"name": "http"})
    [port] = container["ports"]
    assert port == {"name": service["spec"]["ports"][0]["targetPort"], "containerPort": options["port"]}
    assert deployment["replicas"] > budget["minAvailable"] >= 1
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == service["spec"]["selector"] == budget["selector"]["matchLabels"]
    for name in ("startupProbe", "readinessProbe"):
        assert container[name]["httpGet"] == {"path": "/api/health", "port": port["name"]}
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + GRACE
    assert container["securityContext"]["readOnlyRootFilesystem"]


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
