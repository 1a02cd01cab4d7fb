"""The file of rules: what it may hold, and errors that lead to the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_agent.errors import ConfigError
from sluice_agent.server.alerts.file import parse_alerts, read_alerts, unused
from sluice_agent.server.alerts.rules import Depth, FailureShare, OldestWait, Rule, Silence, Webhook
from tests.support.process import ROOT

HOOK = """[webhook.ops]
url = "https://hooks.example.com/x"
secret_env = "OPS_SECRET"
"""
RULE = """
[[rule]]
name = "payments fail"
connection = "shop"
when = "failure_share"
task = "shop.pay"
above = 0.05
webhook = "ops"
"""


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        parse_alerts(text, "f.toml")
    return str(refusal.value).splitlines()


def test_all_kinds_of_rules() -> None:
    """A rule would measure something else than what it says."""
    text = (
        HOOK
        + RULE
        + """
over = "10m"
at_least = 50
for = "2m"
repeat = "4h"
resolve_after = "5m"

[[rule]]
name = "mail is full"
connection = "shop"
when = "depth"
queue = "mail"
above = 1000
webhook = "inner"

[[rule]]
name = "mail waits"
connection = "shop"
when = "oldest_wait"
queue = "mail"
above = "60s"
webhook = "ops"

[[rule]]
name = "worker is gone"
connection = "shop"
when = "silence"
worker = "celery@w1"
above = "2m"
webhook = "ops"

[webhook.inner]
url = "http://10.0.0.5:8065/hooks/x"
secret_env = "INNER_SECRET"
private = true

[webhook.spare]
url = "https://spare.example.com"
secret_env = "SPARE"
"""
    )
    file = parse_alerts(text, "f.toml")
    ops = Webhook("ops", "https://hooks.example.com/x", "OPS_SECRET")
    inner = Webhook("inner", "http://10.0.0.5:8065/hooks/x", "INNER_SECRET", allows_private=True)
    assert file.rules == (
        Rule("payments fail", "shop", FailureShare("shop.pay", 0.05, 600, 50), ops, 120, 300, 14_400),
        Rule("mail is full", "shop", Depth("mail", 1_000), inner),
        Rule("mail waits", "shop", OldestWait("mail", 60), ops),
        Rule("worker is gone", "shop", Silence("celery@w1", 120), ops),
    )
    assert list(unused(file)) == ["spare"]
    assert file.rules[0].text == "more than 5 % of shop.pay fail in 10 min, with at least 50 jobs, for 2 min"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("above = 0.05", "above = 5", ("line 10: rule 'payments fail' above: it must be a share from 0 to below 1, "
         "such as 0.05 for 5 %, and is 5")),
        ("above = 0.05", "above = true", "line 10: rule 'payments fail' above: it must be a share from 0"),
        ("above = 0.05", "above = nan", "line 10: rule 'payments fail' above: it must be a share from 0"),
        ("above = 0.05", "", "line 5: rule 'payments fail' above: it is missing"),
        ('task = "shop.pay"', 'queue = "q"', "line 9: rule 'payments fail' queue: there is no such field here"),
        ('"failure_share"', '"failures"', ("line 8: rule 'payments fail' when: it must be one of failure_share, depth, "
         "oldest_wait, silence, and is 'failures'")),
        ('webhook = "ops"', 'webhook = "pager"', "line 11: rule 'payments fail' webhook: it must be one of ops"),
        ('name = "payments fail"', 'name = ""', "line 6: rule '' name: it must be a text"),
        ('webhook = "ops"', 'webhook = "ops"\nfor = 5', "line 12: rule 'payments fail' for: it must be a duration"),
        ('webhook = "ops"', 'webhook = "ops"\nrepeat = "1m"', ("line 12: rule 'payments fail' repeat: it must be from "
         "5m to 30d, and is '1m'")),
        ('webhook = "ops"', 'webhook = "ops"\nat_least = 0', ("line 12: rule 'payments fail' at_least: it must be a "
         "whole number from 1, and is 0")),
        ("https://hooks.example.com/x", "ftp://x", "line 2: webhook 'ops' url: it must begin with http://"),
        ("https://hooks.example.com/x", "http://127.0.0.1/", ("line 2: webhook 'ops' url: 127.0.0.1 is a private "
         "address: add private = true if it may be sent there")),
        ("https://hooks.example.com/x", "http://169.254.169.254/", ("line 2: webhook 'ops' url: 169.254.169.254 is "
         "never requested")),
        ('secret_env = "OPS_SECRET"', 'secret = "whsec_x"', "line 1: webhook 'ops' secret_env: it is missing"),
        ('secret_env = "OPS_SECRET"', 'secret_env = "a b"', "line 3: webhook 'ops' secret_env: it must be the name"),
        ('secret_env = "OPS_SECRET"', 'secret_env = "S"\nprivate = 1', "line 4: webhook 'ops' private: it must be"),
        ("[[rule]]", "[[rules]]", "line 5: rules: there are only [[rule]] and [webhook.NAME]"),
        ("[[rule]]", "[rule]", "line 5: rule: rules are tables [[rule]]"),
        ("[webhook.ops]", "[webhook]", "line 1: webhook: webhooks are tables [webhook.NAME]"),
        ("[[rule]]", "[[rule]", "f.toml is not TOML"),
    ],
)  # fmt: skip
def test_errors_lead_to_the_place(old: str, new: str, expected: str) -> None:
    """Who writes a rule would have to guess which of forty lines is wrong; or a typing error would switch it off."""
    assert any(expected in error for error in errors((HOOK + RULE).replace(old, new)))


def test_all_errors_are_shown_at_once() -> None:
    """A file would be corrected one error at a time."""
    second = RULE.replace("0.05", "7").replace('name = "payments fail"', "name = 3")
    found = errors(HOOK + RULE + RULE + second)
    assert found == [
        "f.toml, line 14: rule 'payments fail' name: another rule has it: each rule needs a name of its own",
        "f.toml, line 22: rule 3 name: it must be a text of printable characters, and is 3",
        "f.toml, line 26: rule 3 above: it must be a share from 0 to below 1, such as 0.05 for 5 %, and is 7",
    ]


def test_a_file_without_rules_or_none_at_all(tmp_path: Path) -> None:
    """A server would start, and its owner would believe that alerts are on."""
    assert errors(HOOK) == ["f.toml: rule: there is no rule: add a [[rule]]"]
    with pytest.raises(ConfigError, match="can't be read"):
        read_alerts(tmp_path / "no.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="can't be read"):
        read_alerts(tmp_path / "bytes.toml")


def test_the_example_is_right() -> None:
    """Who begins with it would begin with an error."""
    file = read_alerts(ROOT / "examples" / "alerts.toml")
    assert {type(rule.measure) for rule in file.rules} == {Depth, FailureShare, OldestWait, Silence}
    assert list(unused(file)) == []
