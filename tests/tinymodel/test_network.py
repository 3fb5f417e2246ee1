"""The training network computes what Transformers' GptOss computes."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from transformers import GptOssConfig, GptOssForCausalLM  # noqa: E402

from cluster.tinymodel import shape  # noqa: E402
from cluster.tinymodel.network import Blocks, causal_mask  # noqa: E402


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_it_agrees_with_transformers() -> None:
    """Same parameters by name, same hidden states over more than a sliding window."""
    torch.manual_seed(0)
    blocks = Blocks()
    with torch.no_grad():
        for parameter in blocks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    config = GptOssConfig(
        **{**shape.hf_config(), "vocab_size": 300, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    )
    config._attn_implementation = "eager"
    theirs: Any = GptOssForCausalLM(config)
    theirs.eval()
    loaded = theirs.model.load_state_dict(blocks.state_dict(), strict=False)
    assert (loaded.missing_keys, loaded.unexpected_keys) == (["embed_tokens.weight"], [])
    ids = torch.randint(0, 300, (2, 200))
    with torch.no_grad():
        ours = blocks(theirs.model.embed_tokens(ids), torch.arange(200).expand(2, -1))
        difference = ours - theirs.model(input_ids=ids).last_hidden_state
    assert difference.abs().max() < 1e-4


def test_a_window_ends() -> None:
    """A position sees itself and the window before it, and nothing after."""
    seen = (causal_mask(5, 2) == 0).int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
