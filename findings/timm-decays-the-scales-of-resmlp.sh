#!/usr/bin/env bash
# timm 1.0.31: of ResMLP, weight decay also shrinks the scales and shifts, which it spares in Mixer and gMLP.
# Expected: `create_optimizer_v2` decays matrices, and not biases or the scales of a normalization; ResMLP's authors
# wrote that its affine layers are not decayed (issues 106 and 158 of facebookresearch/deit). Seen: timm tells them
# apart by their number of dimensions. Its ResMLP keeps the scale and the shift of a layer as 1 x 1 x 384 numbers, which
# count as a matrix; the authors' code has 384, which would not. The same network, with these parameters reshaped, is
# trained otherwise. Temperatures of XCiT, gains of NFNet and layer scales of FastViT and SwiftFormer are decayed, too.
# The manual says that "bias, norm layer parameters (all 1d params)" are left out; that a normalization of timm's own is
# no such parameter, it does not say. We found no report.
# It matters to comparisons of MLPs: with the recipe of the paper, a decay of 0.2, ResMLP's signal is pulled towards
# zero in each of its 25 normalizations, unlike that of the networks it is compared with, and no setting says so.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install timm==1.0.31 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cat > decay.py << 'PYTHON'
import sys

import timm
import torch
from timm.optim import create_optimizer_v2

RATE, DECAY = 0.5, 0.2


def step(network):
    """Names of decayed parameters that have one dimension of more than one number, after a step without gradients."""
    optimizer = create_optimizer_v2(network, "adamw", lr=RATE, weight_decay=DECAY)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    named = network.named_parameters()
    return [name for name, p in named if id(p) in decayed and sum(size > 1 for size in p.shape) < 2]


print(f"timm {timm.__version__}: parameters with one dimension that weight decay shrinks")
found = {}
for name in ("mixer_s16_224", "gmlp_s16_224", "resmlp_12_224"):
    network = timm.create_model(name)
    found[name] = step(network)
    print(f"{name}: {len(found[name])}", *found[name][:2], *(["..."] if found[name] else []))
scale, shape = network.norm.alpha.mean().item(), tuple(network.norm.alpha.shape)
images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
torch.manual_seed(0)
network = timm.create_model("resmlp_12_224").eval()
before = network(images)
for module in network.modules():
    if hasattr(module, "alpha"):
        module.alpha, module.beta = (torch.nn.Parameter(p.detach().flatten()) for p in (module.alpha, module.beta))
same = torch.equal(network(images), before)
found["reshaped"] = step(network)
flat = network.norm.alpha.mean().item()
print(f"after a step with rate {RATE}, decay {DECAY} and no gradient, scales of shape {shape} are {scale:.2f}", end="")
print(f", of shape {tuple(network.norm.alpha.shape)} {flat:.2f}; the outputs were the same before: {same}")
counts = [len(names) for names in found.values()]
sys.exit(int(not (counts == [0, 0, 50, 0] and same and abs(scale - 0.9) < 1e-6 and flat == 1)))
PYTHON
env/bin/python -W error::UserWarning decay.py || { echo "CHANGED"; exit 1; }
