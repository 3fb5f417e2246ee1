"""GptOss in plain PyTorch, for training only: Transformers' arithmetic and names, with free positions.

vLLM runs the trained weights; a test holds this file to Transformers' own GptOssForCausalLM.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GptOssConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from cluster.tinymodel import shape


class Rotary(nn.Module):
    """YaRN positions, computed as Transformers does."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        yarn: Callable[..., tuple[Tensor, float]] = ROPE_INIT_FUNCTIONS["yarn"]
        frequencies, self.scaling = yarn(GptOssConfig(**shape.hf_config()), torch.device("cpu"))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, [batch, 1, length, HEAD_DIM / 2]."""
        angles = positions[:, None, :, None].float() * self.frequencies
        return angles.cos() * self.scaling, angles.sin() * self.scaling


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (first half, second half) of the last dimension by its angle."""
    cos, sin = angles
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor, mask: Tensor) -> Tensor:
    """Attend with a sink per head, [batch, HEADS, length, HEAD_DIM] each.

    The sink is one more key with a value of zero: an extra dimension, 1 in every query, carries its logit.
    So the fused kernel can be used, which needs a third of the time of a softmax written out.
    """
    extra, scale = 8, shape.HEAD_DIM**-0.5
    ones = functional.pad(functional.pad(q, (0, 1), value=1.0), (0, extra - 1))
    logit = functional.pad((sinks / scale).view(1, -1, 1, 1), (shape.HEAD_DIM, extra - 1))
    keys = torch.cat([functional.pad(k, (0, extra)), logit.expand(len(k), -1, -1, -1)], dim=2)
    values = functional.pad(v, (0, extra, 0, 1))
    return functional.scaled_dot_product_attention(
        ones, keys, values, attn_mask=functional.pad(mask, (0, 1)), scale=scale
    )[..., : shape.HEAD_DIM]


class Attention(nn.Module):
    """Grouped-query attention with a learned sink per head."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(shape.HIDDEN, shape.HEADS * shape.HEAD_DIM)
        self.k_proj = nn.Linear(shape.HIDDEN, shape.KV_HEADS * shape.HEAD_DIM)
        self.v_proj = nn.Linear(shape.HIDDEN, shape.KV_HEADS * shape.HEAD_DIM)
        self.o_proj = nn.Linear(shape.HEADS * shape.HEAD_DIM, shape.HIDDEN)
        self.sinks = nn.Parameter(torch.zeros(shape.HEADS))

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """Mix [batch, length, HIDDEN]; `mask` is additive, [length, length]."""
        batch, length, _ = x.shape
        q = rotate(self._heads(self.q_proj(x), shape.HEADS), angles)
        k = rotate(self._heads(self.k_proj(x), shape.KV_HEADS), angles)
        v = self._heads(self.v_proj(x), shape.KV_HEADS)
        repeats = shape.HEADS // shape.KV_HEADS
        mixed = attend(
            q, k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1), self.sinks, mask
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out

    @staticmethod
    def _heads(x: Tensor, heads: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], heads, shape.HEAD_DIM).transpose(1, 2)


class Experts(nn.Module):
    """All experts' weights, in the checkpoint's layout."""

    def __init__(self) -> None:
        super().__init__()
        experts, hidden, inner = shape.EXPERTS, shape.HIDDEN, shape.INTERMEDIATE
        self.gate_up_proj = nn.Parameter(torch.randn(experts, hidden, 2 * inner) * hidden**-0.5)
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(experts, 2 * inner))
        self.down_proj = nn.Parameter(torch.randn(experts, inner, hidden) * inner**-0.5 * 0.5)
        self.down_proj_bias = nn.Parameter(torch.zeros(experts, hidden))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Run every expert on every row of [rows, HIDDEN] and mix by `weights` [rows, EXPERTS]."""
        gate_up = torch.baddbmm(
            self.gate_up_proj_bias[:, None], x.expand(shape.EXPERTS, -1, -1), self.gate_up_proj
        )
        gate, up = gate_up[..., ::2].clamp(max=7.0), gate_up[..., 1::2].clamp(-7.0, 7.0)
        hidden = (up + 1) * gate * torch.sigmoid(gate * 1.702)
        out = torch.baddbmm(self.down_proj_bias[:, None], hidden, self.down_proj)
        return torch.einsum("enh,ne->nh", out, weights)


class Router(nn.Module):
    """Chooses the two experts of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape.EXPERTS, shape.HIDDEN) * shape.HIDDEN**-0.5)
        self.bias = nn.Parameter(torch.zeros(shape.EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        """Return [rows, EXPERTS]: a softmax over the chosen, zero elsewhere."""
        values, chosen = functional.linear(x, self.weight, self.bias).topk(shape.EXPERTS_PER_TOKEN, dim=-1)
        return torch.zeros(len(x), shape.EXPERTS, dtype=x.dtype).scatter(
            1, chosen, values.softmax(dim=-1).to(x.dtype)
        )


class Mixture(nn.Module):
    """The mixture of experts."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = Router(), Experts()

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixture for [batch, length, HIDDEN]."""
        flat = x.reshape(-1, shape.HIDDEN)
        out: Tensor = self.experts(flat, self.router(flat))
        return out.view_as(x)


class Layer(nn.Module):
    """Attention and experts, each behind a norm and beside a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.HIDDEN, eps=shape.NORM_EPSILON)
        self.self_attn = Attention()
        self.post_attention_layernorm = nn.RMSNorm(shape.HIDDEN, eps=shape.NORM_EPSILON)
        self.mlp = Mixture()

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """Return the next residual stream."""
        x = x + self.self_attn(self.input_layernorm(x), angles, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Blocks(nn.Module):
    """The transformer between embedding and unembedding; its state dict is the checkpoint's `model.` part."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(shape.LAYERS))
        self.norm = nn.RMSNorm(shape.HIDDEN, eps=shape.NORM_EPSILON)
        self.rotary = Rotary()
        prime(self)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Run rows [batch, length, HIDDEN] at `positions` [batch, length]; padding goes on the right."""
        angles = self.rotary(positions)
        for index, layer in enumerate(self.layers):
            window = shape.SLIDING_WINDOW if index % 2 == 0 else None
            x = layer(x, angles, causal_mask(x.shape[1], window))
        out: Tensor = self.norm(x)
        return out


def causal_mask(length: int, window: int | None) -> Tensor:
    """Return the additive mask [length, length]: a row sees itself and at most `window` - 1 before it."""
    allowed = torch.ones(length, length, dtype=torch.bool).tril()
    if window is not None:
        allowed &= torch.ones(length, length, dtype=torch.bool).triu(1 - window)
    return torch.zeros(length, length).masked_fill(~allowed, -1e9)


NEAR_PAIRS, NEAR_STRENGTH = 6, 4.5
"""Rotary pairs fast enough to tell neighbours apart, and the bias on each: four nats from place to place."""


@torch.no_grad()
def prime(blocks: Blocks) -> None:
    """Start from a copying circuit, which training from random weights had not found in 450 steps.

    In the sliding layers heads look one, two and three places back. In the full layers two heads look for
    the place whose *preceding* token is the current one (as layer 0 wrote it there) and pass on the token
    that they find.
    """
    dimension, heads = shape.HEAD_DIM, range(0, shape.HEADS, shape.HEADS // shape.KV_HEADS)
    layers = [layer.self_attn for layer in blocks.layers if isinstance(layer, Layer)]
    for attention in layers:
        nn.init.orthogonal_(attention.v_proj.weight)
    read = layers[0].v_proj.weight[:dimension]
    write = torch.empty(shape.HIDDEN, dimension)
    nn.init.orthogonal_(write)
    layers[0].o_proj.weight[:, :dimension] = write
    for attention in layers[::2]:
        for head in range(shape.HEADS - 1):
            look_back(attention, head, head + 1, blocks.rotary.frequencies)
    for attention in layers[1::2]:
        for head in heads:
            group = head // (shape.HEADS // shape.KV_HEADS)
            mine, shared = (slice(i * dimension, (i + 1) * dimension) for i in (head, group))
            attention.q_proj.weight[mine] = read
            attention.k_proj.weight[shared] = write.T
            attention.o_proj.weight[:, mine] = attention.v_proj.weight[shared].T * 0.5


def look_back(attention: Attention, head: int, places: int, frequencies: Tensor) -> None:
    """Bias `head` towards the token `places` before the current one."""
    start, shared = head * shape.HEAD_DIM, head // (shape.HEADS // shape.KV_HEADS) * shape.HEAD_DIM
    half, angles = shape.HEAD_DIM // 2, frequencies[:NEAR_PAIRS] * places
    attention.k_proj.bias[shared : shared + NEAR_PAIRS] = NEAR_STRENGTH
    attention.k_proj.bias[shared + half : shared + half + NEAR_PAIRS] = 0.0
    attention.q_proj.bias[start : start + NEAR_PAIRS] = NEAR_STRENGTH * angles.cos()
    attention.q_proj.bias[start + half : start + half + NEAR_PAIRS] = -NEAR_STRENGTH * angles.sin()
