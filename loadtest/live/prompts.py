"""What users say: random words of set length, and system prompts that conversations share. Pure, by seed."""

import math
import random
from collections.abc import Mapping

from loadtest.live.plan import Kind, Lengths, Mix, Plan

_P95 = 1.6448536269514722
"""How many standard deviations the normal distribution's 95th percentile lies above its median."""

_LONGEST = 100_000
"""Most words of one question, whatever the distribution says."""

_TEXT = (
    "about after again all also always and any area ask back base because been before best better "
    "between both build call can case change check city clear close come could country course day "
    "different does done down each early end even every example fact far few find first follow form "
    "found four from full general get give good great group grow had hand hard have head help here high "
    "home house how idea important into just keep kind know large last later lead learn least left less "
    "let level life light like line list little live local long look made main make many mark mean "
    "might more most move much must name near need never new next night north note number off often old "
    "once one only open order other our out over own page paper part pattern people place plan plant "
    "play point power problem public put question quick read real right river rule run same school "
    "science sea second see sentence set several short should show side simple since size small some "
    "song soon sound space special stand start state still stop story strong study such sure system "
    "table take talk tell ten than that then there these thing think this those thought three through "
    "time together took top toward town travel tree true turn two under unit until use very voice walk "
    "want warm watch water way week well west what where which while white who whole why will wind with "
    "wonder word work world would write year young"
)
_WORDS = _TEXT.split()
"""Common words: each is one token of gpt-oss's vocabulary with its leading blank."""

TOOL = {
    "name": "lookup_order",
    "description": "Looks up an order by its number.",
    "parameters": {
        "type": "object",
        "properties": {"number": {"type": "string", "description": "The order's number."}},
        "required": ["number"],
        "additionalProperties": False,
    },
}
"""The function that tool-calling users offer."""
TOOL_RESULT = '{"state": "shipped", "carrier": "rail", "days_left": 2}'


def length(lengths: Lengths, rng: random.Random) -> int:
    """Return a random length of the distribution."""
    sigma = math.log(lengths.p95 / lengths.median) / _P95
    return min(_LONGEST, max(1, round(lengths.median * math.exp(rng.gauss(0.0, sigma)))))


def words(count: int, rng: random.Random) -> str:
    """Return random words."""
    return " ".join(rng.choices(_WORDS, k=count))


def question(kind: Kind, lengths: Lengths, rng: random.Random) -> str:
    """Return a question; that of a tool-calling user names the function's argument."""
    said = words(length(lengths, rng), rng)
    return f"{said}. Look up order {rng.randrange(10**6)}." if kind == "tools" else f"{said}?"


def system_prompt(plan: Plan, rng: random.Random) -> str:
    """Return one of the system prompts that conversations share; empty where there is none."""
    conversation = plan.conversation
    if not conversation.shared_prefix_tokens:
        return ""
    number = rng.randrange(conversation.shared_prefixes)
    fixed = random.Random(f"{plan.seed} prefix {number}")  # noqa: S311 - a text, not a secret
    return words(conversation.shared_prefix_tokens, fixed)


def pick(shares: Mapping[str, float], rng: random.Random) -> str:
    """Return one of the names, by its share."""
    (name,) = rng.choices(list(shares), weights=list(shares.values()))
    return name


def weights(mix: Mix) -> dict[Kind, float]:
    """Return the shares of the kinds of user, without those that nobody is."""
    shares: dict[Kind, float] = {"chat": mix.chat, "responses": mix.responses, "tools": mix.tools}
    return {kind: share for kind, share in shares.items() if share}
