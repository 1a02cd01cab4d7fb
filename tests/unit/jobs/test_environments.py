"""The file of environments: what it gives to jobs, what is wrong with it, and its changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_agent.errors import ConfigError
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.environments import (
    NO_ENVIRONMENT,
    Environment,
    Environments,
    UnknownEnvironmentError,
    environment_of,
    parse_environments,
)
from tests.support.endpoint import running
from tests.support.local_sluice import local_sluice
from tests.support.misbehaviour import status
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver
from tests.unit.jobs.conftest import Clock as ProjectClock
from tests.unit.jobs.conftest import Project

ROOT = Path(__file__).parents[3]
SECRETS = {"KEY": "the key of this", "OTHER": "another key!", "SHORT": "1234567", "LINES": "two lines\nof text"}
ADDRESS = '[{0}.variables]\nBASE_URL = "https://{0}.example.com"\n'


def parsed(text: str) -> dict[str, Environment]:
    return parse_environments(text, "environments.toml", SECRETS)


def errors_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parsed(text)
    return str(error.value).splitlines()


def test_the_example_is_right() -> None:
    """Who copies it would begin with an error."""
    variables = {"SHOP_API_KEY": "of production", "SHOP_STAGING_API_KEY": "of staging"}
    text = (ROOT / "examples" / "environments.toml").read_text(encoding="utf-8")
    found = parse_environments(text, "environments.toml", variables)
    assert found["production"].url_of("https://a.example:8443/mail?a=1") == "https://hooks.example.com/mail?a=1"
    assert found["staging"].url_of("http://a.example/mail") == "https://staging.example.com/hooks/mail"
    assert found["echo"].url_of("https://a.example/mail") == "http://127.0.0.1:8000/echo"
    assert (found["production"].secrets, found["staging"].secrets) == (
        {"API-KEY": "of production"},
        {"API-KEY": "of staging"},
    )
    assert found["staging"].projects == {"shop"}
    assert found["echo"].projects is None


def test_a_child_has_what_its_parents_have_unless_it_has_its_own() -> None:
    """A secret of production would go to staging, or each value had to be written twice."""
    found = parsed(
        '[a]\nprojects = ["shop"]\n[a.variables]\nENDPOINT_URL = "https://a.example.com/x"\n'
        '[a.secrets]\nOne = "KEY"\nTwo = "KEY"\n'
        '[b]\nparent = "a"\n[b.variables]\nBASE_URL = "https://b.example.com"\n'
        '[c]\nparent = "b"\n[c.secrets]\nONE = "OTHER"\n'
    )
    assert found["c"] == Environment(
        base_url="https://b.example.com",
        secrets={"ONE": "another key!", "TWO": "the key of this"},
        projects=frozenset(["shop"]),
    )
    assert "key" not in repr(found)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a = 1", "line 1: environment 'a' a: environments are tables [ID]"),
        ("[a", "is not TOML"),
        ("# nothing", "environments.toml: there is no environment: add a [ID]"),
        ('[a]\nparent = "b"', "line 2: environment 'a' parent: it must be the id of another environment of this file"),
        ('[a]\nparent = "a"', "line 2: environment 'a' parent: it is among its own parents"),
        ("[a]\nvariables = 1", "line 2: environment 'a' variables: it must be a table [ID.variables]"),
        (
            "[a]\nurl = 1",
            "line 2: environment 'a' url: there is no such field here: there are parent, projects, secrets",
        ),
        ("[a]\nprojects = []", 'it must be a list of projects, such as ["shop"]'),
        ("[a.variables]\nENDPOINT_ULR = 1", "line 2: environment 'a' ENDPOINT_ULR: there is no such field here"),
        ('[a.variables]\nBASE_URL = "ftp://a"', "line 2: environment 'a' BASE_URL: it must begin with http://"),
        ('[a.variables]\nBASE_URL = "https://a.b/?x"', "it must have no query and no fragment"),
        (
            '[a.variables]\nBASE_URL = "https://a.b"\nENDPOINT_URL = "https://a.b"',
            "line 2: environment 'a' BASE_URL: it",
        ),
        ('[a.secrets]\nKey = "KEY"', "line 1: environment 'a' secrets need an ENDPOINT_URL or a BASE_URL"),
        (
            ADDRESS.format("a") + '[a.secrets]\nA_Key = "KEY"',
            "line 4: environment 'a', secret A_Key: a name has letters",
        ),
        (
            ADDRESS.format("a") + '[a.secrets]\nKey = "KEY"\nKEY = "KEY"',
            "line 5: environment 'a', secret KEY: another one",
        ),
        (ADDRESS.format("a") + '[a.secrets]\nKey = "NONE"', "the environment variable that it names is not set"),
        (ADDRESS.format("a") + '[a.secrets]\nKey = "SHORT"', "a secret has 8 to 4096 characters"),
        (ADDRESS.format("a") + '[a.secrets]\nKey = "LINES"', "holds a character, or a space, that no header has"),
    ],
)
def test_each_error_has_its_place(text: str, error: str) -> None:
    """A typing error would send requests elsewhere, or be found by nobody."""
    [message] = errors_of(text)
    assert error in message


def test_too_many_parents_are_an_error() -> None:
    """A file whose values nobody can follow would be taken."""
    chain = "".join(f'[e{n}]\nparent = "e{n + 1}"\n' for n in range(11))
    assert errors_of(chain + "[e11]\n") == [
        "environments.toml, line 2: environment 'e0' parent: it has more than 10 parents"
    ]


@pytest.mark.parametrize(
    "field",
    [
        '[a.secrets]\nKey = "s3cr3t-of-mine"',
        '[a.secrets]\nKey = "s3cr3t"',
        '[a]\nsecrets = "s3cr3t"',
        '[a.variables]\nENDPOINT_URL = "https://me:s3cr3t@example.com/"',
    ],
)
def test_no_message_has_a_value(field: str) -> None:
    """Who writes a secret into the file by mistake would find it in the log."""
    [message] = errors_of(field)
    assert "s3cr3t" not in message


class Clock:
    """A clock in seconds, which the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_change_of_the_file_needs_no_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new address would hold on some servers only; and an error in the file would stop what has worked."""
    file, clock = tmp_path / "environments.toml", Clock()
    file.write_text(ADDRESS.format("a"))
    environments = Environments(file, SECRETS, clock)

    def address_after(text: str | None) -> str:
        other = tmp_path / "other.toml"
        if text is None:
            file.unlink()
        else:
            other.write_text(text)
            other.replace(file)
        clock.now += 1
        return environments.find("a", "shop").base_url

    assert environments.find("a", "shop").base_url == "https://a.example.com"
    assert address_after(ADDRESS.format("a").replace("a.ex", "b.ex")) == "https://b.example.com"
    assert address_after("[a") == "https://b.example.com"
    assert "The environments of jobs stay as they were" in caplog.text
    assert address_after(None) == "https://b.example.com"
    assert address_after(ADDRESS.format("a")) == "https://a.example.com"


def test_an_environment_is_that_of_its_projects(tmp_path: Path) -> None:
    """Whoever defines a job of one project could use the secrets of another."""
    file = tmp_path / "environments.toml"
    file.write_text('[a]\nprojects = ["shop"]\n')
    environments = Environments(file, SECRETS)
    assert environment_of(environments, "a", "shop") == Environment(projects=frozenset(["shop"]))
    for wrong in (("a", "other"), ("b", "shop")):
        with pytest.raises(UnknownEnvironmentError, match=r"has no '[ab]' for jobs of the project"):
            environment_of(environments, *wrong)
    assert environment_of(environments, "", "shop") == NO_ENVIRONMENT
    assert environment_of(None, "any", "shop") == NO_ENVIRONMENT, "without a file it is a label"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A server would start without the addresses of its jobs."""
    with pytest.raises(ConfigError, match="the file of environments can't be read"):
        Environments(tmp_path / "no.toml", SECRETS)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Project]:
    """A project of a server whose file has one environment."""
    file = tmp_path / "environments.toml"
    file.write_text(
        '[staging.variables]\nENDPOINT_URL = "http://127.0.0.1:9/staging"\n[far.variables]\n'
        'BASE_URL = "http://169.254.169.254"\n'
    )
    engine = EngineOptions(environments=Environments(file, SECRETS), state_dir=tmp_path)
    with local_sluice(tmp_path / "sluice.db", has_jobs=True, engine=engine) as server:
        yield Project(server.client(path="/v1"), ProjectClock(), "shop")


def test_a_job_can_name_only_what_the_file_has(served: Project) -> None:
    """A typing error would be found as a run fails; and a job could have its requests sent to a metadata host."""
    job = served.create(environment_id="staging")
    assert job["environment_id"] == "staging"
    changed = f"/jobs/{job['id']}"
    new = {"project_id": "shop", "name": "Mail", "slug": "other", "endpoint_url": "http://127.0.0.1:9/"}
    for wanted in ({"environment_id": "stagign"}, {"environment_id": "far"}):
        for refusal in (served.refused("PATCH", changed, wanted), served.refused("POST", "/jobs", new | wanted)):
            assert "environment_id: " in refusal
    errors = served.send("POST", "/jobs/batch", {"jobs": [new | {"environment_id": "no"}]}, 400)["errors"]
    assert "environment_id: the server's file of environments" in errors[0]["message"]
    assert served.send("GET", changed)["version"] == 1


def test_a_trigger_whose_environment_is_gone_is_refused(served: Project, tmp_path: Path) -> None:
    """Its caller would take a run for good that can't be executed."""
    job = served.create(environment_id="staging", enabled=True)
    (tmp_path / "environments.toml").write_text("[production]\n")
    trigger = f"/jobs/{job['id']}/trigger"
    wait_until(lambda: served.client.post(trigger, json={"dry_run": True}).status_code == 400)
    assert "environment_id: the server's file of environments" in served.refused("POST", trigger)


def test_secrets_reach_the_endpoint_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever may look at runs would have the keys of the endpoint."""
    with running(WebhookReceiver()) as receiver:
        repeated = json.dumps({"sent": SECRETS["KEY"]}).encode()
        receiver.script(status(503, {"X-Echo": SECRETS["KEY"]}, repeated), status(200, body=repeated))
        file = tmp_path / "environments.toml"
        file.write_text(f'[staging.variables]\nENDPOINT_URL = "{receiver.hook}"\n[staging.secrets]\nKey = "KEY"\n')
        engine = EngineOptions(environments=Environments(file, SECRETS), state_dir=tmp_path, poll=0.05)
        with local_sluice(tmp_path / "sluice.db", has_jobs=True, engine=engine) as server:
            project = Project(server.client(path="/v1"), ProjectClock(), "shop")
            job = project.create(environment_id="staging", retry_strategy="custom", retry_delays_secs=[1])
            run = project.send("POST", f"/jobs/{job['id']}/trigger", {"debug_mode": True}, 201)["id"]
            wait_until(lambda: project.send("GET", f"/runs/{run}")["status"] == "completed")
            texts = [
                project.client.get(path, params={"project_id": "shop"}).text
                for path in ("/jobs", "/runs", f"/runs/{run}", f"/runs/{run}/attempts", f"/jobs/{job['id']}/versions")
            ]
    assert [request.headers["x-secret-key"] for request in receiver.requests] == [SECRETS["KEY"]] * 2
    attempts = json.loads(texts[3])
    assert [attempt["trace"]["exchanges"][0]["url"] for attempt in attempts] == [receiver.hook] * 2
    assert attempts[1]["trace"]["exchanges"][0]["answer_headers"]["x-echo"] == "[redacted]"
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*.db*"))
    assert SECRETS["KEY"] not in "".join([*texts, caplog.text])
    assert SECRETS["KEY"].encode() not in stored
