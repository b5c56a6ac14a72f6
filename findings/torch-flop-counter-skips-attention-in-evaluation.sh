#!/usr/bin/env bash
# PyTorch 2.15.0: FlopCounterMode counts ViT-B/16 as 36% cheaper, and nn.TransformerEncoder as free, in evaluation.
# Expected: a forward pass has the same FLOPs in training, in evaluation and without gradients, as it has for
# convolutions and for Swin. Seen on a CPU: with `eval()` and `no_grad` or `inference_mode`, `nn.MultiheadAttention` and
# `nn.TransformerEncoderLayer` take a fast path of one operator, which the counter does not know and counts as zero: all
# of torchvision's attention with its projections, all of an encoder. There is no warning. Networks on the meta device
# and `torch.backends.mha.set_fastpath_enabled(False)` are counted in full, and outputs are the same. Layers of
# `nn.LSTM` count as zero in training, too.
# The pages of both layers explain the fast path, but not what it means for counting. The counter's docstring says that
# operators without a formula count as zero, and does not list those. Issue 195460 of pytorch/pytorch is about another
# operator of attention, which counted as zero on CPUs and is counted now.
# It matters to tables of FLOPs and accuracy, which are made where networks are evaluated: a ViT looks a third cheaper
# than it is beside networks that write their attention out, and an encoder costs nothing.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > counts.py << 'PYTHON'
import sys
import warnings

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model

NAMES = ("resnet18", "swin_t", "vit_b_16", "an encoder")
images = torch.randn(1, 3, 224, 224)


def made(name):
    if name == "an encoder":
        layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
        return nn.TransformerEncoder(layer, 2), torch.randn(1, 196, 256)
    return get_model(name), images


def counted(network, inputs):
    with FlopCounterMode(display=False) as counter, warnings.catch_warnings(action="error"):
        outputs = network(inputs)
    return counter.get_total_flops(), outputs


def seen(name):
    """FLOPs in training, evaluation, that without gradients, in inference mode, without the fast path, and on meta."""
    torch.manual_seed(0)
    network, inputs = made(name)
    found = [counted(network.train(), inputs)]
    found.append(counted(network.eval(), inputs))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found.append(counted(network, inputs))
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        found.append(counted(network, inputs))
    torch.backends.mha.set_fastpath_enabled(True)
    with torch.no_grad():
        found.append(counted(network.to("meta"), inputs.to("meta")))
    same = all(torch.allclose(found[1][1], outputs, atol=1e-3) for _, outputs in found[2:5])
    return [flops for flops, _ in found], same


print(f"PyTorch {torch.__version__.partition('+')[0]}: billions of FLOPs of one forward pass, by FlopCounterMode")
results = {name: seen(name) for name in NAMES}
for name, (flops, same) in results.items():
    found = "{:.2f} in training, {:.2f} in evaluation, {:.2f} no_grad, {:.2f} inference_mode".format(
        *(each / 1e9 for each in flops)
    )
    print(f"{name}: {found}, {flops[4] / 1e9:.2f} no fast path, {flops[5] / 1e9:.2f} meta; same outputs: {same}")
recurrent = counted(nn.LSTM(256, 256), torch.randn(196, 1, 256))[0]
print(f"nn.LSTM of 256 units on 196 inputs, in training: {recurrent}")
right = all(same and len({*flops[:2], *flops[4:]}) == 1 and flops[0] > 0 for flops, same in results.values())
shares = {name: (flops[2] / flops[0], flops[3] / flops[0]) for name, (flops, _) in results.items()}
whole = shares["resnet18"] == shares["swin_t"] == (1, 1)
cheaper = all(0.6 < share < 0.7 for share in shares["vit_b_16"]) and shares["an encoder"] == (0, 0)
sys.exit(int(not (right and whole and cheaper and recurrent == 0)))
PYTHON
env/bin/python counts.py || { echo "CHANGED"; exit 1; }
