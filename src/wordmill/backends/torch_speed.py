"""What makes torch fast on a processor where answers grow side by side.

Profiled with SmolLM2-135M's shape in bfloat16, 32 answers at once, two cores: of a step of 73 ms
torch's attention for one new token a row took 39 and the linear layers 27; so it is 42 ms, of which
12 and 23.
"""

import ctypes
from contextlib import suppress
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

TWICE: Final = 128 << 20
"""Bytes of an output layer that may lie in memory twice, because the input layer has it too."""

_UNUSUAL: Final = ("position_bias", "cache", "s_aux")
"""What an attention may be given besides, and is left to transformers then."""


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any
) -> tuple[Any, Any]:
    """One new token of each row attends by two plain products; all else as transformers does it.

    query: (rows, heads, new, head size).  key, value: (rows, groups, columns, head size), whose
    sizes may differ.  attention_mask: (rows, 1, new, columns), booleans or what is added; None: all
    is seen.
    """
    rows, heads, new, size = query.shape
    unusual = given.get("softcap") or any(given.get(name) is not None for name in _UNUSUAL)
    each = attention_mask is not None and attention_mask.shape[1] != 1  # a mask for each head
    if new > 1 or unusual or each or query.device.type != "cpu":
        told: tuple[Any, Any] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **given
        )
        return told
    groups, columns = key.shape[1], key.shape[2]
    scaling = given.get("scaling")
    scaled = query * (size**-0.5 if scaling is None else scaling)
    scores = scaled.reshape(rows, groups, heads // groups, size) @ key.transpose(2, 3)
    if attention_mask is not None:
        mask = attention_mask[..., :columns]
        scores = (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        )
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).reshape(rows, 1, heads, -1), None


class Packed(nn.Module):  # type: ignore[misc]
    """A linear layer whose weights lie as the processor's library wants them, once for all."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.bias = linear.bias

    def forward(self, inputs: Any) -> Any:
        """As of the layer that it stands for."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")


def quicken(model: Any) -> None:
    """Let a decoder on a processor use both; nothing changes where they do not fit.

    The attention takes the place of the one that is called `sdpa` here, since models look at that
    name.
    """
    AttentionInterface.register("sdpa", attend)
    fits = torch.backends.mkldnn.is_available() and model.dtype == torch.bfloat16
    if not fits or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    read = model.get_input_embeddings().weight
    # No layer that was packed is held on to: its weights would be in memory twice.
    for module in [one for one in model.modules() if type(one) is not nn.Linear]:
        for name, child in list(module.named_children()):
            if type(child) is not nn.Linear:
                continue
            if child.weight is not read or child.weight.nbytes <= TWICE:
                setattr(module, name, Packed(child))
    with suppress(OSError, AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
