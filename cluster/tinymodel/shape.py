"""The tiny model's shape: a GptOss small enough to train on two CPU threads and to answer on one.

Everything that is not a size (rope, activation, sinks, window) is as in the real model, so that vLLM runs
the same code paths.
"""

from typing import Any

VOCABULARY = 201_088
HIDDEN = 128
LAYERS = 4
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 64
EXPERTS = 4
EXPERTS_PER_TOKEN = 2
INTERMEDIATE = 64
SLIDING_WINDOW = 128
NORM_EPSILON = 1e-5

START_OF_TEXT = 199_998
END_OF_TEXT = 199_999
RETURN = 200_002
CONSTRAIN = 200_003
CHANNEL = 200_005
START = 200_006
END = 200_007
MESSAGE = 200_008
CALL = 200_012
STOP_TOKENS = (RETURN, END_OF_TEXT, CALL)
"""The ids in generation_config.json that end an answer; without `<|call|>` tool calls run on."""


def hf_config() -> dict[str, Any]:
    """Return the checkpoint's config.json."""
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "dtype": "bfloat16",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "layer_types": ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(LAYERS)],
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "attention_bias": True,
        "attention_dropout": 0.0,
        "sliding_window": SLIDING_WINDOW,
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": EXPERTS_PER_TOKEN,
        "intermediate_size": INTERMEDIATE,
        "hidden_act": "silu",
        "swiglu_limit": 7.0,
        "rms_norm_eps": NORM_EPSILON,
        "max_position_embeddings": 131_072,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 150_000.0,
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 4096,
        },
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "router_aux_loss_coef": 0.0,
        "output_router_logits": False,
        "use_cache": True,
        "bos_token_id": START_OF_TEXT,
        "eos_token_id": RETURN,
        "pad_token_id": END_OF_TEXT,
    }
