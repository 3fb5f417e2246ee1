"""Dashboards as Grafana reads them, from rows of panels: nobody writes places, ids and the source by hand."""

from dataclasses import dataclass, field
from typing import Any, Literal

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8
"""Grafana's grid is 24 columns wide."""
SELECTORS = {
    "{gateway": '{namespace="$namespace",job="$gateway"',
    "{ray": '{namespace="$namespace",job="$ray"',
}
"""How expressions name the release that is looked at."""


@dataclass(frozen=True)
class Panel:
    """One panel: a title, a unit, and expressions with the legend of each."""

    title: str
    unit: str
    queries: dict[str, str]
    """Expression by legend."""
    text: str = ""
    """What it shows, where the title does not say it."""
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    stacked: bool = False
    width: int = 8


@dataclass(frozen=True)
class Row:
    """A row of panels below a heading; more than fit go on below."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard; with ``query`` empty a number to type, ``default`` at first."""

    name: str
    label: str
    query: str = ""
    default: str = ""
    several: bool = False


RELEASE = (
    Variable("namespace", "Namespace", "label_values(gptoss_pool_slots, namespace)"),
    Variable("gateway", "Gateways", 'label_values(gptoss_pool_slots{namespace="$namespace"}, job)'),
    Variable("ray", "Ray", 'label_values(ray_serve_application_status{namespace="$namespace"}, job)'),
)
"""Which release is looked at: every dashboard begins with these."""


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; its name is that of its file."""

    name: str
    title: str
    text: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = field(default=())

    def json(self) -> dict[str, Any]:
        """Return it as Grafana reads it."""
        return {
            "uid": f"gpt-oss-{self.name}",
            "title": f"gpt-oss / {self.title}",
            "description": self.text,
            "tags": ["gpt-oss"],
            "schemaVersion": 39,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "templating": {"list": [_source(), *map(_variable, (*RELEASE, *self.variables))]},
            "links": [
                {
                    "type": "dashboards",
                    "title": "gpt-oss",
                    "tags": ["gpt-oss"],
                    "asDropdown": True,
                    "keepTime": True,
                }
            ],
            "panels": self._panels(),
        }

    def _panels(self) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        y = 0
        for row in self.rows:
            made.append(
                {
                    "id": len(made) + 1,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "panels": [],
                    "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
                }
            )
            y, x = y + 1, 0
            for panel in row.panels:
                if x + panel.width > WIDTH:
                    x, y = 0, y + HEIGHT
                place = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
                made.append({"id": len(made) + 1, **_panel(panel), "gridPos": place})
                x += panel.width
            y += HEIGHT
        return made


def _panel(panel: Panel) -> dict[str, Any]:
    is_table = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": _expanded(expression),
            "legendFormat": legend,
            **({"instant": True, "range": False, "format": "table"} if is_table else {}),
        }
        for number, (legend, expression) in enumerate(panel.queries.items())
    ]
    custom = {"fillOpacity": 25 if panel.stacked else 5, "showPoints": "never"}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal"}  # type: ignore[assignment]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        defaults["custom"] = custom
    made: dict[str, Any] = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }
    if panel.kind == "stat":
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"}
    if is_table:
        made["options"] = {"sortBy": [{"displayName": "Value", "desc": True}]}
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]
    return made


def _expanded(expression: str) -> str:
    for short, long in SELECTORS.items():
        expression = expression.replace(short, long)
    return expression


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(one: Variable) -> dict[str, Any]:
    named = {"name": one.name, "label": one.label}
    if not one.query:
        value = {"text": one.default, "value": one.default}
        return {**named, "type": "textbox", "query": one.default, "current": value}
    several = {"multi": True, "includeAll": True, "allValue": ".*"} if one.several else {}
    current = {"current": {"text": "All", "value": "$__all"}} if one.several else {}
    asked = {"query": _expanded(one.query), "refId": "A"}
    return {
        **named,
        "type": "query",
        "datasource": SOURCE,
        "query": asked,
        "refresh": 2,
        "sort": 1,
        **several,
        **current,
    }
