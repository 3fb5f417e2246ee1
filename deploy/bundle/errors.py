"""How work on a bundle can fail; each message names the thing and its mend.

BundleError
├── SourceError          a source answers, and what it says is no use
│   └── MissingError     it does not have the file
└── UnreachableError     nothing answers, or the connection breaks again and again
"""


class BundleError(RuntimeError):
    """Work on a bundle failed."""


class SourceError(BundleError):
    """A source answers, and what it says is no use."""


class MissingError(SourceError):
    """A source does not have the file."""


class UnreachableError(BundleError):
    """Nothing answers, or the connection breaks again and again."""
