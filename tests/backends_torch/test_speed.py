"""What is quicker on a processor computes what torch and transformers do."""

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from wordmill.backends.torch_speed import Packed, attend


class Groups(nn.Module):  # type: ignore[misc]
    num_key_value_groups = 3


@pytest.mark.parametrize("kind", ["none", "booleans", "added", "of each head"])
@pytest.mark.parametrize("size", [16, 8])
def test_one_new_token_attends_as_it_does_elsewhere(kind: str, size: int) -> None:
    draw = torch.Generator().manual_seed(1)
    query = torch.randn((4, 6, 1, 16), generator=draw)
    room = torch.randn((2, 8, 2, 40, 16), generator=draw)
    key, value = room[:, :4, :, 3:30]  # as a band gives them: a part of larger ones
    value = value[..., :size]
    seen = torch.arange(27)[None] >= torch.tensor([0, 5, 26, 11])[:, None]
    added = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None, None]
    mask = {
        "none": None,
        "booleans": seen[:, None, None],
        "added": added,
        "of each head": added + torch.randn((4, 6, 1, 27), generator=draw),
    }[kind]
    found, _ = attend(Groups(), query, key, value, mask, scaling=0.3)
    wanted, _ = sdpa_attention_forward(Groups(), query, key, value, mask, scaling=0.3)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("rows", [1, 7, 200])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_gives_what_its_layer_gives(rows: int, bias: bool) -> None:
    torch.manual_seed(2)
    linear = nn.Linear(48, 80, bias=bias).to(torch.bfloat16)
    inputs = torch.randn((rows, 3, 48)).to(torch.bfloat16)
    with torch.inference_mode():
        wanted, found = linear(inputs), Packed(linear)(inputs)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
