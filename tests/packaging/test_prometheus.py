"""What is shipped for Prometheus and Grafana: rules that fire when they should, and names that there are."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any  # JSON of Grafana

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mover.control.web.metrics import Exposition
from tests.support.moments import moment
from tests.support.peers import require

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
RULES = PACKAGING / "prometheus" / "mover-rules.yml"
DASHBOARD = PACKAGING / "grafana" / "mover-dashboard.json"
RULES_TEST = Path(__file__).with_name("mover-rules-test.yml")
SELECTOR = re.compile(r"\b(mover_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
OF_SCRAPES = {"instance", "job"}  # Prometheus' own


def exposed() -> dict[str, set[str]]:
    """Metric -> its labels."""
    body, _ = Exposition().render(moment(), "")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def panels() -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Where it stands, and the expression."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for number, line in enumerate(RULES.read_text().splitlines()):
        if line.lstrip().startswith(("expr:", ">", "or", "unless", "rate", "increase")):
            yield f"{RULES.name}:{number + 1}", line


def test_every_expression_names_metrics_and_labels_that_there_are() -> None:
    there = exposed()
    wrong = []
    for place, expression in expressions():
        for name, selector in SELECTOR.findall(expression):
            labels = set(LABEL.findall(re.sub(r'"[^"]*"', '""', selector))) - OF_SCRAPES
            if name not in there or not labels <= there[name]:
                wrong.append(f"{place}: {name}{{{selector}}}")
    assert wrong == []


def test_every_metric_is_shown_or_watched() -> None:
    shown = {name for _, expression in expressions() for name, _ in SELECTOR.findall(expression)}
    assert set(exposed()) - shown == set()


def test_no_panel_covers_another_and_all_say_what_they_show() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        assert panel["description"], panel["title"]
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24, panel["title"]
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    identifiers = [panel["id"] for panel in panels()]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.peer("promtool")
@pytest.mark.parametrize("arguments", [("check", "rules", RULES), ("test", "rules", RULES_TEST)], ids=["check", "test"])
def test_promtool(arguments: tuple[str | Path, ...]) -> None:
    result = subprocess.run([require("promtool"), *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.peer("promtool")
def test_prometheus_can_parse_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"expression_{number}",
            "expr": expression.replace("$__rate_interval", "1m").replace("$instance", ".*"),
        }
        for number, (place, expression) in enumerate(expressions())
        if RULES.name not in place
    ]
    path = tmp_path / "rules.json"  # which is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = subprocess.run(
        [require("promtool"), "check", "rules", path], capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
