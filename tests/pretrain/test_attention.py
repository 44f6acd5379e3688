"""Our CPU attention and cross entropy equal torch's, forward and backward."""

import pytest
import torch
import torch.nn.functional as F

from pretrain.attention import (
    _group_like,
    _has_flash_attention,
    dropout_factors,
    matrix_attention,
    packed_attention,
    padded_attention,
)
from pretrain.losses import _SummedCrossEntropy, summed_cross_entropy

LENGTHS = [5, 1, 30, 12]


def make_inputs(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Query, key and value of 4 heads of width 8, requiring gradients."""
    generator = torch.Generator().manual_seed(2)
    flat = [torch.randn(1, 48, 4, 8, generator=generator, dtype=torch.float64) for _ in range(3)]
    return [tensor.to(dtype).transpose(1, 2).requires_grad_() for tensor in flat]


def reference(query, key, value, scaling, sliding_window):
    """One sdpa over the whole row with a mask that keeps sequences apart."""
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    allowed = owner[:, None] == owner[None]
    if sliding_window is not None:
        position = torch.arange(48)
        allowed &= (position[:, None] - position[None]).abs() < sliding_window
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, scale=scaling).transpose(1, 2)


@pytest.mark.parametrize("sliding_window", [None, 9, 2])
@pytest.mark.parametrize("attend", [matrix_attention, padded_attention])
def test_attention_equals_a_block_mask(attend, sliding_window):
    inputs, expected_inputs = make_inputs(), make_inputs()
    output = attend(*inputs, LENGTHS, LENGTHS, 0.3, 0.0, sliding_window)
    expected = reference(*expected_inputs, 0.3, sliding_window)
    torch.testing.assert_close(output, expected)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    output.backward(upstream)
    expected.backward(upstream)
    for tensor, other in zip(inputs, expected_inputs, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad)


def test_matrix_attention_with_dropout_has_the_gradient_of_its_own_output():
    inputs = make_inputs()

    def attend(*tensors: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return matrix_attention(*tensors, LENGTHS, LENGTHS, 0.3, 0.2, None)

    assert not torch.equal(attend(*inputs), matrix_attention(*inputs, LENGTHS, LENGTHS, 0.3, 0.0, None))
    assert torch.autograd.gradcheck(attend, inputs, fast_mode=True)


@pytest.mark.parametrize("padded_to", [8, 64])
def test_padded_attention_makes_a_call_for_each_length_rounded_up(monkeypatch, padded_to):
    calls, attend = [], F.scaled_dot_product_attention

    def count(*tensors, **keys):
        calls.append(tuple(tensors[1].shape))
        return attend(*tensors, **keys)

    monkeypatch.setattr("pretrain.attention.PADDED_TO", padded_to)
    monkeypatch.setattr("pretrain.attention.F.scaled_dot_product_attention", count)
    _group_like.cache_clear()
    inputs, expected_inputs = make_inputs(), make_inputs()
    output = padded_attention(*inputs, LENGTHS, LENGTHS, 0.3, 0.0, None)
    monkeypatch.undo()
    _group_like.cache_clear()
    torch.testing.assert_close(output, reference(*expected_inputs, 0.3, None))
    assert calls == ([(2, 4, 5, 8), (1, 4, 30, 8), (1, 4, 12, 8)] if padded_to == 8 else [(4, 4, 30, 8)])


def test_padded_attention_drops_weights_and_keeps_their_mean():
    inputs = [tensor.detach() for tensor in make_inputs()]
    exact = padded_attention(*inputs, LENGTHS, LENGTHS, 0.3, 0.0, None)
    torch.manual_seed(0)
    draws = torch.stack([padded_attention(*inputs, LENGTHS, LENGTHS, 0.3, 0.25, None) for _ in range(3000)])
    assert draws[0].ne(exact).any()
    # A token alone in its sequence keeps its value over 0.75, or loses it.
    alone = (draws[:, 0, 5] / exact[0, 5]).mean(dim=(1, 2))
    assert sorted({round(value, 6) for value in alone.tolist()} - {0.0})[-1] == pytest.approx(1 / 0.75)
    error = draws.std(dim=0) / 3000**0.5
    assert ((draws.mean(dim=0) - exact).abs() < 5 * error + 1e-9).all()


@pytest.mark.parametrize("attend", ["matrix", "sdpa", "padded"])
def test_some_queries_get_the_rows_that_all_would(attend):
    query, key, value = make_inputs()
    asked = torch.tensor([0, 3, 8, 20, 21, 40])
    counts = [2, 0, 3, 1]
    whole = reference(query, key, value, 0.3, None)[:, asked]
    some = query[:, :, asked]
    if attend == "matrix":
        output = matrix_attention(some, key, value, LENGTHS, counts, 0.3, 0.0, None)
    elif attend == "padded":
        output = padded_attention(some, key, value, LENGTHS, counts, 0.3, 0.0, None)
    else:
        output, _ = packed_attention(None, some, key, value, None, lengths=LENGTHS, query_lengths=counts, scaling=0.3)
    torch.testing.assert_close(output, whole)
    upstream = torch.randn(whole.shape, dtype=torch.float64)
    expected = torch.autograd.grad(whole, [query, key, value], upstream)
    for gradient, other in zip(torch.autograd.grad(output, [query, key, value], upstream), expected, strict=True):
        torch.testing.assert_close(gradient, other)


def test_dropout_factors_keep_the_mean():
    factors = dropout_factors(torch.empty(1000, 1000), 0.1)
    assert factors is not None
    assert factors.unique().tolist() == pytest.approx([0.0, 256 / 230])
    assert (factors == 0).float().mean().item() == pytest.approx(26 / 256, abs=0.002)
    assert factors.mean().item() == pytest.approx(1, abs=0.002)
    assert dropout_factors(factors, 0.0) is None


def test_cross_entropy_equals_torch_forward_and_backward():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 50, generator=generator) * 4
    labels = torch.randint(0, 50, (300,), generator=generator)
    labels[::7] = -100
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = _SummedCrossEntropy.apply(ours, labels)
    expected = F.cross_entropy(theirs, labels, reduction="sum", ignore_index=-100)
    torch.testing.assert_close(loss, expected)
    (loss / 17).backward()
    (expected / 17).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_cross_entropy_in_bf16_is_as_exact_as_its_logits():
    logits = (torch.randn(200, 90, generator=torch.Generator().manual_seed(0)) * 3).bfloat16()
    labels = torch.arange(200) % 90
    ours, theirs = logits.clone().requires_grad_(), logits.float().requires_grad_()
    loss = summed_cross_entropy(ours, labels)
    expected = F.cross_entropy(theirs, labels, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-3)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=0.01, atol=0.005)


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "runs"),
    [
        ("cuda:0", torch.bfloat16, (9, 0), True),
        ("cuda:0", torch.float16, (8, 0), True),
        ("cuda:0", torch.float32, (9, 0), False),
        ("cuda:0", torch.bfloat16, (7, 5), False),  # T4
        ("cuda:0", torch.bfloat16, (7, 0), False),  # V100
        ("cpu", torch.bfloat16, (9, 0), False),
    ],
)
def test_flash_attention_is_for_gpus_that_have_it(monkeypatch, device, dtype, capability, runs):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    # Without the cache, which outlives a test.
    assert _has_flash_attention.__wrapped__(torch.device(device), dtype) is runs
