"""Facts about outcomes and usage."""

from cluster.core.accounting import Outcome, Usage


def test_charge_counts_cached_tokens_once() -> None:
    """A request is charged for prompt, reasoning and answer; cached tokens are part of the prompt."""
    assert Usage(prompt=10, cached=8, reasoning=5, answer=2).total == 17


def test_outcomes_are_label_values() -> None:
    """Every outcome is its own lower-case word, fit for a metric label."""
    assert all(outcome.value == outcome.name.lower() for outcome in Outcome)
    assert len(Outcome) == 15
