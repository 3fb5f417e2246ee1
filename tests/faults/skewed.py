"""The product's command line under a clock that is wrong by ``SKEW_S`` seconds."""

import os
import time
from functools import partial


def _wrong(right: "partial[float]", by_s: float) -> float:
    return right() + by_s


if __name__ == "__main__":
    time.time = partial(_wrong, partial(time.time), float(os.environ["SKEW_S"]))
    from cluster.cli import main

    main()
