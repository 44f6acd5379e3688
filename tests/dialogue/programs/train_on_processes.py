"""Train a tiny decoder without dropout, on as many processes as started this; keep every step's gradients.

Usage: train_on_processes.py FOLDER NUMBER_OF_REPLIES ...
"""

import datetime
import random
import sys
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from dialogue.config import DialogueRecipe
from dialogue.examples import EncodedReply
from dialogue.training import Trainer

# Processes that wait for each other for ever end with an error.
LONGEST_WAIT = InitProcessGroupKwargs(timeout=datetime.timedelta(seconds=120))
# Without dropout, whose random numbers belong to a process.
SIZES = {
    "vocab_size": 50, "n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip


def train(folder: Path, replies: int) -> None:
    """Train two epochs; the main process writes `gradients.safetensors`."""
    accelerator = Accelerator(mixed_precision="no", cpu=True, kwargs_handlers=[LONGEST_WAIT])
    folder.mkdir(parents=True, exist_ok=True)
    recipe = DialogueRecipe(
        output_dir=folder, conversations=["jsonl:absent"], batch_size=8, micro_batch_size=2, epochs=2,
        evaluation_steps=2, checkpoint_steps=100, learning_rate=1e-2, max_gradient_norm=1e9,
    )  # fmt: skip
    generator = random.Random(replies)
    examples = [
        EncodedReply(tuple(generator.randrange(1, 50) for _ in range(generator.randrange(8, 20))), 4, 3)
        for _ in range(replies)
    ]
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**SIZES))
    trainer = Trainer(recipe, model, examples, examples[:4], 0, accelerator, folder)
    gradients: dict[str, torch.Tensor] = {}
    clip = accelerator.clip_grad_norm_

    def keep_and_clip(*arguments: object) -> object:
        for name, parameter in accelerator.unwrap_model(trainer.model).named_parameters():
            gradients[f"step {trainer.state.step}: {name}"] = parameter.grad.clone()
        return clip(*arguments)

    accelerator.clip_grad_norm_ = keep_and_clip
    history = trainer.train()
    gradients["train_loss"] = torch.tensor([record["train_loss"] for record in history])
    if accelerator.is_main_process:
        save_file(gradients, folder / "gradients.safetensors")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    for number in sys.argv[2:]:
        train(Path(sys.argv[1]) / number, int(number))
