"""The packed forward and backward equal Hugging Face's padded ones, for every supported architecture, in fp32."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
)

from configs.base_models import ModelSource
from configs.errors import UserError
from pretrain.attention import PACKED_ATTENTION
from pretrain.encoder import PackedMaskedLM, load_masked_lm, set_dropout
from pretrain.last_layer import Asked

SIZES = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIGS: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**SIZES, intermediate_size=64, max_position_embeddings=64),
    "roberta": RobertaConfig(
        **SIZES, intermediate_size=64, max_position_embeddings=66, pad_token_id=1, type_vocab_size=1
    ),
    "distilbert": DistilBertConfig(
        vocab_size=120, dim=32, n_layers=3, n_heads=4, hidden_dim=64, max_position_embeddings=64
    ),
    "electra": ElectraConfig(**SIZES, embedding_size=16, intermediate_size=64, max_position_embeddings=64),
    "modernbert": ModernBertConfig(
        **SIZES,
        intermediate_size=48,
        max_position_embeddings=64,
        local_attention=16,
        global_attn_every_n_layers=3,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
    ),
}
LENGTHS = [40, 7, 64, 12, 1]
FAMILIES = pytest.mark.parametrize("family", CONFIGS)


def build_pair(family: str) -> tuple[torch.nn.Module, PackedMaskedLM]:
    """Plain Hugging Face with sdpa, and the packed model with the same weights; no dropout."""
    torch.manual_seed(3)
    plain = AutoModelForMaskedLM.from_config(copy.deepcopy(CONFIGS[family]), attn_implementation="sdpa")
    packed = AutoModelForMaskedLM.from_config(copy.deepcopy(CONFIGS[family]), attn_implementation=PACKED_ATTENTION)
    for module in plain.modules():  # weights that start at 0 or 1 would hide mistakes
        for parameter in module.parameters(recurse=False):
            torch.nn.init.normal_(parameter, std=0.1)
    packed.load_state_dict(plain.state_dict())
    set_dropout(plain, 0.0)
    set_dropout(packed, 0.0)
    return plain.train(), PackedMaskedLM(packed).train()


def make_sequences() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Random sequences and, for each, its masked positions."""
    generator = torch.Generator().manual_seed(5)
    sequences = [torch.randint(5, 120, (length,), generator=generator) for length in LENGTHS]
    return sequences, [torch.arange(0, length, 3) for length in LENGTHS]


def plain_loss(model: torch.nn.Module, sequences: list[torch.Tensor], masked: list[torch.Tensor]) -> torch.Tensor:
    """Padded batch, logits everywhere, labels of −100 elsewhere: as Hugging Face's own script trains."""
    size, pad_id = max(LENGTHS), model.config.pad_token_id
    input_ids = torch.full((len(sequences), size), pad_id)
    labels = torch.full_like(input_ids, -100)
    attention_mask = torch.zeros_like(input_ids)
    for row, (tokens, positions) in enumerate(zip(sequences, masked, strict=True)):
        input_ids[row, : len(tokens)] = tokens
        attention_mask[row, : len(tokens)] = 1
        labels[row, positions] = (tokens[positions] + 1) % 120
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


def packed_inputs(sequences, masked):
    """The flat micro-batch of the same sequences, with padding at its end."""
    starts = np.cumsum([0, *LENGTHS])
    input_ids = torch.cat([*sequences, torch.zeros(9, dtype=torch.long)])
    position_ids = torch.cat([torch.arange(length) for length in [*LENGTHS, 9]])
    positions = torch.cat([where + int(start) for where, start in zip(masked, starts, strict=False)])
    return input_ids, position_ids, [*LENGTHS, 9], Asked(positions, [*map(len, masked), 0])


@FAMILIES
def test_loss_and_every_gradient_equal_plain_hugging_face(family):
    plain, packed = build_pair(family)
    sequences, masked = make_sequences()
    expected = plain_loss(plain, sequences, masked)
    expected.backward()
    inputs = packed_inputs(sequences, masked)
    labels = (inputs[0][inputs[3].positions] + 1) % 120
    loss = F.cross_entropy(packed(*inputs), labels)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    gradients = dict(packed.model.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.grad is None:
            assert gradients[name].grad is None, name
            continue
        difference = (gradients[name].grad - parameter.grad).norm()
        assert difference <= 2e-6 * parameter.grad.norm() + 1e-7, name


@FAMILIES
def test_a_changed_sequence_leaves_all_others_bit_equal(family):
    _, packed = build_pair(family)
    sequences, masked = make_sequences()
    before = packed(*packed_inputs(sequences, masked))
    changed = [*sequences]
    changed[2] = (sequences[2] + 7) % 100 + 5
    after = packed(*packed_inputs(changed, masked))
    owner = torch.cat([torch.full((len(where),), number) for number, where in enumerate(masked)])
    assert torch.equal(before[owner != 2], after[owner != 2])
    assert not torch.equal(before[owner == 2], after[owner == 2])


@FAMILIES
def test_positions_restart_at_every_sequence(family):
    """The same sequence gives the same logits wherever it lies in the stream."""
    _, packed = build_pair(family)
    tokens = torch.randint(5, 120, (20,))
    stream = torch.cat([tokens, tokens])
    positions = torch.arange(20).repeat(2)
    logits = packed(stream, positions, [20, 20], Asked(torch.arange(40), [20, 20]))
    torch.testing.assert_close(logits[:20], logits[20:], atol=1e-5, rtol=1e-5)


def test_bf16_stays_close_to_fp32():
    plain, packed = build_pair("bert")
    sequences, masked = make_sequences()
    expected = plain_loss(plain, sequences, masked)
    inputs = packed_inputs(sequences, masked)
    bf16 = PackedMaskedLM(packed.model, autocast_dtype=torch.bfloat16)
    loss = F.cross_entropy(bf16(*inputs).float(), (inputs[0][inputs[3].positions] + 1) % 120)
    assert loss.item() != expected.item()
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)


@FAMILIES
def test_a_saved_folder_is_a_plain_checkpoint_with_its_own_dropout(family, tmp_path):
    _, packed = build_pair(family)
    packed.model.save_pretrained(tmp_path)
    assert "mindshift" not in (tmp_path / "config.json").read_text()
    again, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    original, kept = CONFIGS[family].to_dict(), AutoConfig.from_pretrained(tmp_path).to_dict()
    assert {key: kept[key] for key in original if "dropout" in key} == {
        key: value for key, value in original.items() if "dropout" in key
    }
    assert torch.equal(again.get_input_embeddings().weight, packed.model.get_input_embeddings().weight)


def test_an_unknown_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot load this masked language model"):
        load_masked_lm(ModelSource(str(tmp_path / "nothing"), is_local=True))


@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_an_encoder_whose_weights_have_other_names_is_refused(tmp_path, prefix):
    AutoModelForMaskedLM.from_config(CONFIGS["bert"]).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    renamed = {prefix + name: tensor for name, tensor in load_file(weights).items()}
    save_file(renamed, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"weights of the encoder are not in the checkpoint, such as bert\."):
        load_masked_lm(ModelSource(str(tmp_path), is_local=True))


@FAMILIES
def test_a_head_may_be_missing(family, tmp_path, caplog):
    AutoModel.from_config(CONFIGS[family]).save_pretrained(tmp_path)
    with caplog.at_level("INFO"):
        load_masked_lm(ModelSource(str(tmp_path), is_local=True))
    assert "start at random: the masked-LM head" in caplog.text
