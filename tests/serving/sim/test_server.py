"""The simulator on a real socket: what only a server shows, and the official client against it."""

import socket
import threading
from collections.abc import Iterator

import openai
import pytest
import uvicorn
from pydantic import BaseModel

from cluster.serving.sim import AddressInUse, create_app, run
from cluster.serving.sim.asgi import listen
from cluster.settings import SimulatedEngine
from tests.serving.sim.virtual import CHAT_TOOL, KEY, MODEL

pytestmark = pytest.mark.integration

QUICK = SimulatedEngine(ttft_ms=1, inter_token_ms=0.1)


class Trip(BaseModel):
    """A structured answer."""

    place: str
    nights: int


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """Give the official client of a simulator that runs under uvicorn in a thread."""
    app = create_app(QUICK, model=MODEL, replica="replica-0", engine_key=KEY, faults=True)
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client
    server.should_exit = True
    thread.join()


def _ask(client: openai.OpenAI, text: str) -> str | None:
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content


def test_the_client_reads_whole_answers_and_models(client: openai.OpenAI) -> None:
    """Chat and the model list parse in the official client."""
    assert [model.id for model in client.models.list()] == [MODEL]
    assert _ask(client, "hello")


def test_the_client_reads_a_chat_stream(client: openai.OpenAI) -> None:
    """Its streaming helper assembles the same message and usage."""
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "hello"}],
        stream_options={"include_usage": True},
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == _ask(client, "hello")
    assert final.usage is not None


def test_the_client_reads_a_responses_stream(client: openai.OpenAI) -> None:
    """Its streaming helper assembles the output text."""
    with client.responses.stream(model=MODEL, input="hello") as stream:
        streamed = stream.get_final_response().output_text
    assert streamed == client.responses.create(model=MODEL, input="hello").output_text != ""


def test_the_client_parses_structured_answers_and_calls(client: openai.OpenAI) -> None:
    """``parse`` accepts what comes, and a streamed call assembles."""
    messages = [{"role": "user", "content": "a trip to Bergen"}]
    parsed = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Trip)  # type: ignore[arg-type]
    assert parsed.choices[0].message.parsed is not None
    with client.chat.completions.stream(model=MODEL, messages=messages, tools=[CHAT_TOOL]) as stream:  # type: ignore[arg-type, list-item]
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "get_weather"


@pytest.mark.parametrize("word", ["fault-reset", "fault-cut"])
def test_a_broken_connection_is_one_to_the_client(client: openai.OpenAI, word: str) -> None:
    """A reset before the first byte and a cut stream are connection errors, never a clean end."""
    with pytest.raises(openai.APIConnectionError):
        for _ in client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": word}], stream=True
        ):
            pass


def test_a_port_in_use_is_named() -> None:
    """The error tells which address, and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        app = create_app(QUICK, model=MODEL, replica="replica-0", engine_key=None)
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port}.*--port"):
            run(app, port=port)
