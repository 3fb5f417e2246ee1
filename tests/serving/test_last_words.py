"""The cause of an engine's death survives, its stack frames do not."""

from cluster.serving.last_words import LINES, essence

LOG = """\
:actor_name:ServeReplica:gpt-oss-20b
(Worker pid=7) INFO 11-24 04:57:20 [model.py:1] Starting to load model /models/x...
(Worker pid=7) \rLoading safetensors checkpoint shards: 0% Completed | 0/1 [00:00<?, ?it/s]
(Worker pid=7) ERROR 11-24 04:57:27 [executor.py:944] Traceback (most recent call last):
(Worker pid=7) ERROR 11-24 04:57:27 [executor.py:944]   File "utils.py", line 309, in _load_param
(Worker pid=7) ERROR 11-24 04:57:27 [executor.py:944]     weight_loader(param, weight_data)
(Worker pid=7) ERROR 11-24 04:57:27 [executor.py:944]     ^^^^^^^^^^^^^
(Worker pid=7) ERROR 11-24 04:57:27 [executor.py:944] RuntimeError: size 96 must match 64
(EngineCore pid=6) Process EngineCore:
(EngineCore pid=6)   File "core.py", line 1
Exception: see above
"""


def test_the_error_stays_and_its_frames_go() -> None:
    """Progress bars, Ray's own lines and traceback frames would crowd out the cause."""
    assert essence(LOG).splitlines() == [
        "(Worker pid=7) INFO 11-24 04:57:20 [model.py:1] Starting to load model /models/x...",
        "(Worker pid=7) ERROR 11-24 04:57:27 [executor.py:944] RuntimeError: size 96 must match 64",
        "Exception: see above",
    ]


def test_only_the_last_lines_stay() -> None:
    """A chatty engine does not fill the status message."""
    words = essence("\n".join(f"line {number}" for number in range(100))).splitlines()
    assert (len(words), words[-1]) == (LINES, "line 99")
