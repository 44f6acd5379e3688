"""A rank of a distributed program: adds up all ranks over gloo, as `accelerate launch` set it up."""

import os

import torch
import torch.distributed

torch.distributed.init_process_group("gloo")
total = torch.tensor([torch.distributed.get_rank() + 1])
torch.distributed.all_reduce(total)
print(f"{os.environ['SLURMD_NODENAME']} rank {torch.distributed.get_rank()} sum {int(total)}", flush=True)
torch.distributed.destroy_process_group()
