"""Troubles that may last: each is logged when it begins or changes, and when it is over."""

import logging


class Troubles:
    """The troubles of one store, told to its logger."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._told: dict[str, str] = {}

    def tell(self, about: str, trouble: str) -> None:
        """Log a trouble, unless it is the one already told of ``about``."""
        if self._told.get(about) != trouble:
            self._logger.error("%s: %s", about, trouble)
            self._told[about] = trouble

    def over(self, about: str) -> None:
        """Log that the trouble with ``about`` is over, if there was one."""
        if about in self._told:
            self._logger.info("%s: over: %s", about, self._told.pop(about))
