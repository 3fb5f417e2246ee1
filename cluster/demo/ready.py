"""A demo that is up: a first question to each model, and the block that says how to use it."""

import json
import textwrap
import urllib.error
import urllib.request
from collections.abc import Mapping

from cluster.demo.document import State
from cluster.demo.machine import Engine, Ports

ENGINES: Mapping[Engine, str] = {
    "vllm": "real vLLM on CPU with the tiny gpt-oss checkpoint",
    "sim": "the simulated engine",
}
FIRST_QUESTION_LIMIT_S = 60.0


def facts(ports: Ports, keys: Mapping[str, str], state: State) -> dict[str, str]:
    """Return the addresses and keys of a demo that is up, for scripts and tests."""
    return {
        "base_url": f"http://127.0.0.1:{ports.gateway}/v1",
        "admin_url": f"http://127.0.0.1:{ports.admin}",
        "serve_url": f"http://127.0.0.1:{ports.serve}",
        "engine_key_file": str(state.engine_key),
        "log_folder": str(state.folder),
        **{f"api_key_{tenant}": key for tenant, key in keys.items()},
    }


def ask(ports: Ports, key: str, model: str) -> str:
    """Send one question through the gateway and return the answer. Raises ``OSError`` when there is none."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "reasoning_effort": "low"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{ports.gateway}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=FIRST_QUESTION_LIMIT_S) as response:  # noqa: S310  the same
        answer = str(json.load(response)["choices"][0]["message"]["content"])
    return textwrap.shorten(answer, width=70)


def block(told: Mapping[str, str], engine: Engine, elapsed_s: float) -> str:
    """Return the text that says the demo is ready and how to use it."""
    url, key = told["base_url"], told["api_key_demo"]
    return f"""
────────────────────────────────────────────────────────────────────────────────
gpt-oss-cluster is ready after {elapsed_s:.0f} s: gpt-oss-120b and gpt-oss-20b,
each served by {ENGINES[engine]}.

  export OPENAI_BASE_URL={url}
  export OPENAI_API_KEY={key}

  curl {url}/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" \\
    -H "Content-Type: application/json" -d '{{"model": "gpt-oss-120b",
    "messages": [{{"role": "user", "content": "Hello!"}}], "reasoning_effort": "low"}}'

  .venv/bin/python - <<'PYTHON'
  from openai import OpenAI
  answer = OpenAI().chat.completions.create(
      model="gpt-oss-20b", reasoning_effort="high",
      messages=[{{"role": "user", "content": "Hello!"}}])
  print(answer.choices[0].message.content, answer.usage)
  PYTHON

Metrics: {told["admin_url"]}/metrics    Logs: {told["log_folder"]}
A key that may see the chain of thought: {told["api_key_research"]}
Ctrl-C stops everything.
────────────────────────────────────────────────────────────────────────────────"""
