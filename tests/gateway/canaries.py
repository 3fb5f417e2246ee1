"""Words that must never be told: unique, so that one that is told says where it came from."""

import re


class Canaries:
    """Makes canaries and looks for them."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        """Return a new word for ``place``, which may stand in a name, a header or a path."""
        return self.keep(place, f"canary-{len(self._places):04}-end")

    def keep(self, place: str, secret: str) -> str:
        """Take a secret that has a form of its own for a canary; return it."""
        self._places[secret.lower()] = place
        return secret

    def told(self, text: str) -> list[str]:
        """Return the places whose words are in ``text``, in any case, or cut short."""
        text = text.lower()
        cut = set(re.findall(r"canary-\d{4}", text))
        return sorted(
            place for word, place in self._places.items() if word in text or word.removesuffix("-end") in cut
        )

    def __len__(self) -> int:
        return len(self._places)
