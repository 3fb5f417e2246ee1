"""Random text for the corpus: sentences in many languages, and words drawn from the whole vocabulary."""

import json
import random
from collections.abc import Callable
from typing import Any

from cluster.tinymodel.tokens import Tokens

_SENTENCES = (
    "What is the capital of {}",
    "Please summarise the report about {}",
    "Write a short poem for {}",
    "How do I restart the {} server",
    "Explain {} to a new colleague",
    "hello {}",
    "Reasoning: high\n\nThink about {}",
    "I asked for low effort, not high effort, on {}",
    "The weather in {} at medium height",
    "Was kostet {} im nächsten Jahr",
    "Bitte erkläre mir {} in zwei Sätzen",
    "Pouvez-vous résumer {} pour demain",
    "Quelle est la date de {}",
    "¿Cuál es el mejor {} de la ciudad",
    "Escreva um resumo sobre {} amanhã",
    "Расскажи мне про {} сегодня",
    "どうやって{}を使いますか",
    "请解释一下{}的原理",
    "{}에 대해 설명해 주세요",
    "اشرح لي {} من فضلك",
    "मुझे {} के बारे में बताओ",
    "Vertel me iets over {} alsjeblieft",
    "Kerro minulle {} lyhyesti",
    "Opowiedz mi o {} jutro",
    "Bana {} anlat",
    "ช่วยอธิบาย {} หน่อย",
    "Hãy giải thích {} cho tôi",
    "def f(x):\n    return {}",
    'type look = (_: {{\nname: string,\n}}) => any; "{}"',
    "<b>{}</b> & co. (see p. 12)",
    "1. First\n2. Second {}\n- third",
    '{{"key": "{}", "n": 3}}',
)
_ENDINGS = (
    "",
    "",
    "",
    "",
    ".",
    "?",
    "?",
    "!",
    "…",
    "。",
    ")",
    '"',
    ".\n",
    " ?",
    " :)",
    " 🙂",
    "```",
    '"}',
    "'",
)
# fmt: off
_PEOPLE = (
    "Anna", "Ben", "Chen", "Dora", "Erik", "Fatima", "Goran", "Hana", "Ivan", "Jana", "Kofi", "Lena",
    "Maya", "Noor", "Omar", "Priya", "Tariq", "Yuki", "Zoe",
)
# fmt: on
COMMON = 24_000
"""Ids below this are frequent words and pieces; the rest of the vocabulary is rare."""


def word(rng: random.Random, tokens: Tokens) -> str:
    """Return one random word, common or rare, in any script, with the space it may begin with."""
    draw = rng.random()
    if draw < 0.05:
        return " " + rng.choice(_PEOPLE)
    index = rng.choice(tokens.whole)
    if draw < 0.6:
        index = rng.randrange(256, COMMON)
    return tokens.bytes[index].decode("utf-8", errors="ignore")


def words(rng: random.Random, tokens: Tokens, count: int) -> str:
    """Return `count` random words one after another, with punctuation here and there."""
    pieces = [word(rng, tokens) for _ in range(count)]
    return "".join(
        piece + (rng.choice((",", ".", "\n", " -", ":")) if rng.random() < 0.06 else "") for piece in pieces
    )


def message(rng: random.Random, tokens: Tokens, *, longest: int = 60) -> str:
    """Return a user's or a developer's text of about one to `longest` words, never empty."""
    draw = rng.random()
    if draw < 0.4:
        text = rng.choice(_SENTENCES).format(word(rng, tokens).strip())
        if rng.random() < 0.75:
            text += words(rng, tokens, rng.randint(1, 6))
    else:
        text = words(rng, tokens, 1 + int(longest * rng.random() ** 2.5))
    return (text + rng.choice(_ENDINGS)) or "hi"


def tool_result(rng: random.Random, tokens: Tokens) -> str:
    """Return what a tool might answer: prose, a number, or JSON."""
    draw = rng.random()
    if draw < 0.4:
        return message(rng, tokens, longest=12)
    if draw < 0.5:
        return str(rng.randint(0, 99_999))
    makers: list[Callable[[], Any]] = [
        lambda: words(rng, tokens, rng.randint(1, 2)).strip(),
        lambda: rng.randint(-20, 2000),
        lambda: rng.random() < 0.5,
        lambda: [rng.choice(_PEOPLE)],
    ]
    value = {identifier(rng): rng.choice(makers)() for _ in range(rng.randint(1, 3))}
    separators = rng.choice([(",", ":"), (", ", ": ")])
    return json.dumps(value, ensure_ascii=rng.random() < 0.3, separators=separators)


# fmt: off
_VERBS = (
    "get", "search", "lookup", "find", "create", "send", "list", "read", "run", "query", "fetch",
    "calculate", "check", "convert", "book", "order", "cancel", "update", "delete", "add", "remove",
    "open", "call", "load", "save", "translate", "compare", "plan", "show", "set", "make", "test", "sum",
    "lock", "stop", "start",
)
# fmt: on
# fmt: off
_NOUNS = (
    "weather", "city", "query", "text", "name", "user", "id", "time", "date", "price", "location",
    "ticket", "order", "file", "page", "code", "number", "amount", "country", "language", "message",
    "title", "status", "email", "table", "value", "key", "data", "report", "unit", "day", "product",
    "address", "limit", "topic", "account", "event", "document", "team", "source", "target", "path",
    "url", "question", "answer", "word", "city_name", "user_id", "start_date", "max_results",
)
# fmt: on


def identifier(rng: random.Random) -> str:
    """Return a property name such as `city` or `userId`."""
    if rng.random() < 0.75:
        return rng.choice(_NOUNS)
    first, second = rng.choice(_NOUNS), rng.choice(_NOUNS)
    return rng.choice((f"{first}_{second}", first + second.title().replace("_", "")))


def tool_name(rng: random.Random) -> str:
    """Return a function name such as `get_weather`, `lookup` or `searchDocs`."""
    verb, noun = rng.choice(_VERBS), rng.choice(_NOUNS)
    return rng.choice(
        (verb, f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}{noun.title()}", f"{noun}_{verb}", noun)
    )
