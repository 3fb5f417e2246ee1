"""What a PromQL expression names: metrics, each with the labels that are used of it."""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser

GRAFANA = {"$__rate_interval": "5m", "$__range": "6h", "$price": "2.5"}
"""What Grafana puts in place of its variables outside quotes."""


def parse(expression: str) -> Any:
    """Return the tree of an expression of a rule or a dashboard. Raises ``ValueError``."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return promql_parser.parse(expression)


def used(expression: str) -> list[tuple[str, frozenset[str]]]:
    """Return each metric that an expression selects, and the labels that it matches or groups by."""
    return [(name, frozenset(labels)) for name, labels in _walk(parse(expression), frozenset())]


def _walk(node: Any, labels: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name or "", labels | {matcher.name for matcher in node.matchers.matchers}
    elif isinstance(node, promql_parser.MatrixSelector):
        yield from _walk(node.vector_selector, labels)
    elif isinstance(node, promql_parser.AggregateExpr):
        yield from _walk(node.expr, frozenset(node.modifier.labels) if node.modifier else frozenset())
    elif isinstance(node, promql_parser.BinaryExpr):
        matching = node.modifier.matching if node.modifier else None
        more = labels | frozenset(matching.labels) if matching else labels
        yield from _walk(node.lhs, more)
        yield from _walk(node.rhs, more)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from _walk(argument, labels)
    elif isinstance(node, promql_parser.ParenExpr | promql_parser.UnaryExpr | promql_parser.SubqueryExpr):
        yield from _walk(node.expr, labels)
    else:
        assert isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral), node


def legend_labels(legend: str) -> frozenset[str]:
    """Return the labels that a legend shows."""
    return frozenset(re.findall(r"\{\{(\w+)\}\}", legend))
