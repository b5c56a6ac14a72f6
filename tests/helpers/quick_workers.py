"""Imported by the server that tests fork workers from: does once what a new worker spends seconds on."""

import torch

import mlpstudy.workers  # noqa: F401
from mlplib import timing

torch.set_num_threads(1)  # first: a process that has started threads for arithmetic cannot be forked
timing.matmul_rate(torch.device("cpu"), "fp32")
