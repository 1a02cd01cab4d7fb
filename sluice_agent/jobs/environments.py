"""The file of environments: where the requests of jobs go that name one as `environment_id`, and their secrets.

Only what `serve` is given knows secrets: jobs, runs and events have the id of an environment alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from sluice_agent.errors import ConfigError
from sluice_agent.log import warn_limited
from sluice_agent.outbound.addresses import AddressError, parse_url
from sluice_agent.toml_tables import Errors, Table, parse_toml, plain, read_toml

_MOST_PARENTS = 10
_LONGEST_ID = 255  # bytes, as of a job's `environment_id`
_LONGEST_URL = 2048
_SHORTEST_SECRET, _LONGEST_SECRET = 8, 4096  # characters: a shorter one could not be recognised in an answer
_LOOK_SECONDS = 1.0  # between two looks at the file
_SECRET_NAME = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ADDRESSES = ("ENDPOINT_URL", "BASE_URL")


class UnknownEnvironmentError(Exception):
    """A job names an environment that there is not. The message has the reason."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What an environment has, with what it has of its parents. Secrets are not printed."""

    endpoint_url: str = ""
    """Replaces the `endpoint_url` of a job."""
    base_url: str = ""
    """Replaces scheme, host and port of it, and stands before its path."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By name, as in the header `X-Secret-NAME`."""
    projects: frozenset[str] | None = None
    """Those whose jobs may name it. None: all."""

    def url_of(self, endpoint_url: str) -> str:
        """Return where the requests of a job go that has this `endpoint_url`."""
        if not self.base_url:
            return self.endpoint_url or endpoint_url
        parts, base = parse_url(endpoint_url), parse_url(self.base_url)
        path = base.path.rstrip("/") + (parts.path or "/")
        return parts._replace(scheme=base.scheme, netloc=base.netloc, path=path).geturl()


NO_ENVIRONMENT = Environment()
"""That of a job without one, and of all jobs while `serve` has no file: their ids are labels then."""


def parse_environments(text: str, name: str, variables: Mapping[str, str]) -> dict[str, Environment]:
    """Return the environments of a text by their ids; `name` is that of its file, `variables` have the secrets.

    Raises `ConfigError`, with all errors.
    """
    document = parse_toml(text, name)
    errors = Errors(text)
    own = {id_: _own(id_, table, document, variables, errors) for id_, table in document.items()}
    if not document:
        errors.add("", 0, "", "there is no environment: add a [ID]")  # also while an editor writes the file
    errors.check(name)
    found = {id_: _merged(id_, own, errors) for id_ in own}
    for id_, environment in found.items():
        if environment.secrets and not (environment.endpoint_url or environment.base_url):
            message = "secrets need an ENDPOINT_URL or a BASE_URL: else the author of a job chooses who gets them"
            errors.add(f"{plain(id_)}.secrets", 0, "", message, _label(id_))
    errors.check(name)
    return found


class Environments:
    """The environments of the file `path`. Thread-safe.

    The file is read again when it has changed. One with an error changes nothing, but for a line in the log: what was
    read before holds until the error is corrected. `variables` have the secrets, and `clock` returns seconds. Raises
    `ConfigError` if the file has an error at first.
    """

    def __init__(self, path: Path, variables: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._variables = variables
        self._clock = clock
        self._lock = Lock()
        self._stamp = self._stamp_now()
        self._found = self._read()
        self._looked_at = clock()

    def find(self, environment_id: str, project: str) -> Environment:
        """Return an environment for the jobs of a project. Raises `UnknownEnvironmentError` if there is none."""
        with self._lock:
            self._look()
            found = self._found.get(environment_id)
        if found is None or not (found.projects is None or project in found.projects):
            raise UnknownEnvironmentError(
                f"the server's file of environments (serve --jobs-environments) has no {environment_id!r} for jobs of"
                f" the project {project}"
            )
        return found

    def _look(self) -> None:
        if self._clock() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = self._clock()
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        try:
            self._found = self._read()
            self._stamp = stamp
        except ConfigError as error:
            warn_limited("jobs-environments", "The environments of jobs stay as they were: %s", error)

    def _read(self) -> dict[str, Environment]:
        return parse_environments(read_toml(self._path, "environments"), str(self._path), self._variables)

    def _stamp_now(self) -> object:
        """Return what changes with the file."""
        try:
            found = self._path.stat()
        except OSError as error:
            return error.errno
        return found.st_mtime_ns, found.st_size, found.st_ino


def environment_of(environments: Environments | None, environment_id: str, project: str) -> Environment:
    """Return the environment that a job of a project names, if `serve` has a file of them. Raises
    `UnknownEnvironmentError`."""
    return environments.find(environment_id, project) if environments and environment_id else NO_ENVIRONMENT


@dataclass(frozen=True, slots=True)
class _Own:
    """What the tables of one environment have."""

    parent: str | None
    environment: Environment


def _own(id_: str, values: Any, document: Mapping[str, Any], variables: Mapping[str, str], errors: Errors) -> _Own:
    label = _label(id_)
    if not isinstance(values, dict):
        errors.add("", 0, plain(id_), "environments are tables [ID]", label)
        return _Own(None, NO_ENVIRONMENT)
    table = Table(errors, plain(id_), 0, label, values, shows_values=False)  # they may be secrets by mistake
    if not id_ or not id_.isprintable() or len(id_.encode()) > _LONGEST_ID:
        table.error("", f"an id is a text of 1 to {_LONGEST_ID} printable bytes")
    parent = table.take_optional("parent", lambda value: _one_of(value, document))
    projects = table.take_optional("projects", _names)
    addresses = _addresses(id_, _table_in(table, "variables"), errors)
    secrets = _secrets(id_, _table_in(table, "secrets"), variables, errors)
    table.end()
    environment = Environment(addresses.get("ENDPOINT_URL", ""), addresses.get("BASE_URL", ""), secrets, projects)
    return _Own(parent, environment)


def _table_in(table: Table, name: str) -> dict[str, Any]:
    return table.take_optional(name, lambda value: _table(value, name)) or {}


def _table(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"it must be a table [ID.{name}]")


def _addresses(id_: str, values: dict[str, Any], errors: Errors) -> dict[str, str]:
    table = Table(errors, f"{plain(id_)}.variables", 0, _label(id_), values, shows_values=False)
    found = {name: table.take_optional(name, _urls[name]) for name in _ADDRESSES}
    table.end()
    addresses = {name: url for name, url in found.items() if url}
    if len(addresses) > 1:
        table.error("BASE_URL", "it and ENDPOINT_URL exclude each other")
    return addresses


def _url(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_URL:
        raise ValueError(f"it must be a URL of at most {_LONGEST_URL} characters")
    try:
        parse_url(value)
    except AddressError as error:
        raise ValueError(str(error)) from None
    return value


def _base_url(value: Any) -> str:
    parts = parse_url(_url(value))
    if parts.query or parts.fragment:
        raise ValueError("it must have no query and no fragment")
    return str(value)


_urls: Mapping[str, Callable[[Any], str]] = {"ENDPOINT_URL": _url, "BASE_URL": _base_url}


def _secrets(id_: str, names: dict[str, Any], variables: Mapping[str, str], errors: Errors) -> dict[str, str]:
    """Return the secrets by their names. No message has what stands in place of a variable: it may be a secret."""
    secrets: dict[str, str] = {}
    for name, variable in names.items():
        fault = _fault_of_name(name, secrets) or _fault_of_secret(variable, variables)
        if fault is None:
            secrets[name.upper()] = variables[variable]
        else:
            errors.add(f"{plain(id_)}.secrets", 0, name, fault, f"{_label(id_)}, secret")
    return secrets


def _fault_of_name(name: str, others: Mapping[str, str]) -> str | None:
    if not _SECRET_NAME.fullmatch(name):
        return "a name has letters, digits and hyphens, at most 64: many servers drop a header with any other"
    return "another one differs in capital letters only, as headers don't" if name.upper() in others else None


def _fault_of_secret(variable: Any, variables: Mapping[str, str]) -> str | None:
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        return "it must be the name of an environment variable of the server, which holds the secret"
    secret = variables.get(variable)
    if not secret:
        return "the environment variable that it names is not set"
    if not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        return "the environment variable that it names holds a character, or a space, that no header has"
    if not _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET:
        return f"a secret has {_SHORTEST_SECRET} to {_LONGEST_SECRET} characters"
    return None


def _merged(id_: str, own: Mapping[str, _Own], errors: Errors) -> Environment:
    """Return an environment with what it has of its parents: the nearest one that has something wins."""
    merged = own[id_].environment
    seen = [id_]
    parent = own[id_].parent
    while parent is not None:
        if parent in seen or len(seen) > _MOST_PARENTS:
            fault = "it is among its own parents" if parent in seen else f"it has more than {_MOST_PARENTS} parents"
            errors.add(plain(id_), 0, "parent", fault, _label(id_))
            break
        seen.append(parent)
        merged = _beside(merged, own[parent].environment)
        parent = own[parent].parent
    return merged


def _beside(nearer: Environment, further: Environment) -> Environment:
    address = nearer if nearer.endpoint_url or nearer.base_url else further
    return replace(
        nearer,
        endpoint_url=address.endpoint_url,
        base_url=address.base_url,
        secrets={**further.secrets, **nearer.secrets},
        projects=further.projects if nearer.projects is None else nearer.projects,
    )


def _one_of(value: Any, document: Mapping[str, Any]) -> str:
    if not isinstance(value, str) or value not in document:
        raise ValueError("it must be the id of another environment of this file")
    return value


def _names(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise ValueError('it must be a list of projects, such as ["shop"]')
    return frozenset(value)


def _label(id_: str) -> str:
    return f"environment {id_!r}"
