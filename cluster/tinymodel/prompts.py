"""Prompts that the training of the tiny model never saw, in some twenty languages."""

import random
from itertools import cycle

_TEMPLATES = (
    "Which river flows through {}?",
    "Tell me one surprising fact about {}",
    "Is it true that many people like {}?",
    "My colleague insists on {}!",
    "Could we move the launch to {}",
    "Compare apples with {}.",
    "Was weißt du eigentlich über {}?",
    "Ich brauche dringend Hilfe mit {}",
    "Pourquoi tout le monde parle de {} ?",
    "J'aimerais comprendre {}",
    "¿Por qué la gente habla tanto de {}?",
    "Necesito un plan para {}",
    "Conte uma história curta sobre {}.",
    "Dimmi tutto quello che sai su {}",
    "Wat vind jij eigenlijk van {}?",
    "Что ты думаешь про {}?",
    "Напиши короткое письмо про {}",
    "あなたは{}が好きですか",
    "为什么大家都喜欢{}",
    "왜 사람들은 {} 좋아하나요?",
    "ما رأيك في {}؟",
    "आप {} के बारे में क्या सोचते हैं?",
    "Ne düşünüyorsun {}?",
    "Co sądzisz o {}?",
    "def main(): print('{}')",
    "Ticket #{}: the printer on floor 3 is on fire",
    "Please keep this in mind for the rest of our conversation, since it will matter later: {}",
)
_SUBJECTS = (
    "Lisbon",
    "volcanoes",
    "quarterly budgets",
    "Zürich",
    "penguins",
    "rétroplanning",
    "Пушкин",
    "量子力学",
    "서울",
    "القاهرة",
    "दिल्ली",
    "croissants",
    "Kubernetes",
    "blockchain",
    "Łódź",
    "the Baltic Sea",
    "naïve Bayes",
    "tulips",
    "Grand-Bassam",
    "übermorgen",
    "lactose",
    "42 dragons",
    "Mondrian",
    "sourdough",
    "0.5 mg ibuprofen",
    "İstanbul",
    "Ångström",
    "thermodynamics",
    "jazz",
    "Ouagadougou",
    "moonlight",
    "Çeşme",
    "free software",
    "the third invoice",
    "Schrödinger",
    "πλατεία",
    "Київ",
    "東京タワー",
    "Hà Nội",
    "ภูเก็ต",
)


def unseen_prompts(count: int, seed: int = 1) -> list[str]:
    """Return `count` prompts in some twenty languages, by seed; none is in the training text."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    prompts = []
    for template, _ in zip(cycle(_TEMPLATES), range(count), strict=False):
        tail = f" {rng.choice(_SUBJECTS)}" if rng.random() < 0.4 else ""
        prompts.append(template.format(rng.choice(_SUBJECTS)) + tail)
    return prompts
