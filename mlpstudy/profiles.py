"""The profiles: how much each may spend and what it uses. Experiments derive their runs from them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mlplib.errors import MlplibError, require_choice
from mlplib.specs import OptimizerSpec
from mlplib.specs.settings import plain

SEEDS = "a list of whole numbers, such as [0, 1, 2] or 0,1,2"
"""What seeds must be, for error messages."""


@dataclass(frozen=True)
class Profile:
    """One budget.

    ``datasets``: catalog names to train on from scratch, the first is the main one. ``b_mlp, s_mlp``: the two
    MLPs; ``epochs_no_da, epochs_da``: lengths of training from scratch without and with augmentation, of the
    paper's 100, 1000 and 5000; ``batch_size``; ``learning_rate``: Lion's, the paper's 5e-5 wherever a claim
    is judged; ``seeds``: those that a reader's own execution runs; ``examples``: growing training sets for
    the filters; ``permutation_epochs``: length of the runs with permuted pixels; ``convnet``: the network
    with an inductive bias that the MLPs are compared with.

    Transfer: ``upstream``: the data set to pre-train on; ``downstream``: those to transfer to, the first is
    the main one; ``resolution``: the side in pixels of every image in transfer; ``pretrain_*``: pre-training
    of ``pretrain_model`` (``s_pretrain_model`` for the S-MLP it is compared with, ``small_model`` in chapters
    of many runs); ``fine_tune_*`` and ``probe_*``: what follows. ``fine_tune_lengths``: pairs of a number of
    downstream training images, None for all, and the epochs on them; ``fine_tune_optimizer``: the head's,
    ``fine_tune_body_lr``: the learning rate of everything else. Settings of one chapter only are in its
    experiment, by profile; ``elsewhere`` names the profile whose settings are taken there, by default this.
    """

    name: str
    about: str
    datasets: tuple[str, ...]
    b_mlp: str
    s_mlp: str
    batch_size: int
    learning_rate: float
    epochs_no_da: int
    epochs_da: tuple[int, ...]
    seeds: tuple[int, ...]
    examples: tuple[int, ...]
    permutation_epochs: int
    convnet: str
    upstream: str
    downstream: tuple[str, ...]
    resolution: int
    pretrain_model: str
    s_pretrain_model: str
    small_model: str
    pretrain_epochs: int
    pretrain_batch_size: int
    fine_tune_lengths: tuple[tuple[int | None, int], ...]
    fine_tune_batch_size: int
    fine_tune_optimizer: OptimizerSpec
    fine_tune_body_lr: float
    probe_epochs: int
    probe_batch_size: int
    probe_lr: float
    elsewhere: str = ""

    @property
    def key(self) -> str:
        """The name under which an experiment has this profile's settings."""
        return self.elsewhere or self.name


SMOKE = Profile(
    name="smoke",
    about="drawn shapes at 16x16, tiny models, no download: shows that everything works, in seconds",
    datasets=("shapes-16",),
    b_mlp="B-2/Wi-32",
    s_mlp="S-2/Wi-32",
    batch_size=128,
    learning_rate=2e-3,
    epochs_no_da=4,
    epochs_da=(2, 4),
    seeds=(0, 1),
    examples=(256,),
    permutation_epochs=3,
    convnet="small-cnn",
    upstream="shapes-16-upstream",
    downstream=("shapes-16-downstream",),
    resolution=16,
    pretrain_model="B-2/Wi-32",
    s_pretrain_model="S-2/Wi-32",
    small_model="B-2/Wi-32",
    pretrain_epochs=4,
    pretrain_batch_size=64,
    fine_tune_lengths=((None, 4),),
    fine_tune_batch_size=64,
    fine_tune_optimizer=OptimizerSpec("sgd", lr=0.1, weight_decay=1e-4),
    fine_tune_body_lr=0.01,
    probe_epochs=10,
    probe_batch_size=64,
    probe_lr=2e-3,
)

LAPTOP = Profile(
    name="laptop",
    about="CIFAR-10 at 32x32, models up to B-6/Wi-256: a first look, in minutes on two CPU cores",
    datasets=("cifar10",),
    b_mlp="B-6/Wi-256",
    s_mlp="S-6/Wi-256",
    batch_size=1024,
    learning_rate=5e-5,
    epochs_no_da=40,
    epochs_da=(20, 40),
    seeds=(0,),
    examples=(1000,),
    permutation_epochs=4,
    convnet="small-cnn",
    upstream="cifar10-upstream",
    downstream=("cifar10-downstream",),
    resolution=32,
    pretrain_model="B-6/Wi-256",
    s_pretrain_model="S-6/Wi-256",
    small_model="B-6/Wi-128",
    pretrain_epochs=24,
    pretrain_batch_size=512,
    # Pre-training is for when labeled images are few. From 150 to 400 updates of 100 images.
    fine_tune_lengths=((100, 150), (200, 100), (500, 60), (1000, 40), (None, 2)),
    fine_tune_batch_size=100,
    # The optimizer of training from scratch, so that the two differ in their initial weights only: a body
    # pre-trained on little data has more to learn than the paper's.
    fine_tune_optimizer=OptimizerSpec(lr=5e-5),
    fine_tune_body_lr=5e-5,
    probe_epochs=50,
    probe_batch_size=512,
    probe_lr=3e-4,
)

COLAB = replace(
    LAPTOP,
    name="colab",
    about="a small GPU as free services lend it: Table 1 at 1,000 epochs, transfer; the rest as on a laptop",
    b_mlp="B-6/Wi-1024",
    s_mlp="S-6/Wi-1024",
    batch_size=4096,
    epochs_no_da=100,
    epochs_da=(1000,),
    permutation_epochs=20,
    pretrain_model="B-6/Wi-1024",
    pretrain_epochs=200,
    pretrain_batch_size=1024,
    elsewhere="laptop",
)

GPU = Profile(
    name="gpu",
    about="the paper's models and lengths on CIFAR-10, CIFAR-100 and Tiny ImageNet: hours on one modern GPU",
    datasets=("cifar10", "cifar100", "tinyimagenet"),
    b_mlp="B-6/Wi-1024",
    s_mlp="S-6/Wi-1024",
    batch_size=4096,
    learning_rate=5e-5,
    epochs_no_da=100,
    epochs_da=(1000, 5000),
    seeds=(0, 1, 2),
    examples=(1000, 5000, 20000),
    permutation_epochs=50,
    convnet="resnet18",
    upstream="tinyimagenet",
    downstream=("cifar100", "cifar10"),
    resolution=64,
    pretrain_model="B-12/Wi-1024",
    s_pretrain_model="S-6/Wi-2048",
    small_model="B-6/Wi-512",
    pretrain_epochs=800,
    pretrain_batch_size=4096,
    fine_tune_lengths=((None, 50),),
    fine_tune_batch_size=2048,
    fine_tune_optimizer=OptimizerSpec("sgd", lr=0.01, weight_decay=1e-4),
    fine_tune_body_lr=0.001,
    probe_epochs=50,
    probe_batch_size=2048,
    probe_lr=1e-5,
)

PAPER = replace(
    GPU,
    name="paper",
    about="the paper's models, lengths and single seed: what the paper ran, as far as it can be had",
    seeds=(0,),
    datasets=("cifar10", "cifar100", "tinyimagenet", "imagenet"),
    permutation_epochs=100,
    upstream="imagenet21k",
    downstream=("cifar100", "cifar10", "stl10", "tinyimagenet", "imagenet"),
    pretrain_batch_size=16384,
)

PROFILES = {profile.name: profile for profile in (SMOKE, LAPTOP, COLAB, GPU, PAPER)}
"""Every profile by name."""


def profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        MlplibError: no profile has this name.
    """
    require_choice("profile", name, tuple(PROFILES))
    return PROFILES[name]


def parse_seeds(seeds: object) -> tuple[int, ...]:
    """Seeds from ``"0,1,2"``, from a list of whole numbers, or from one number, which is one seed.

    Raises:
        MlplibError: not seeds, negative, 2**32 or more, or one twice.
    """
    found = plain(seeds)
    if isinstance(seeds, str):
        parts = re.sub(r"^\s*(?:\[(.*)\]|\((.*)\))\s*$", r"\1\2", seeds).split(",")
        numbers = all(re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", part) for part in parts)
        found = [int(part) for part in parts] if numbers else None
    elif type(found) is int:
        found = [found]
    if not isinstance(found, list | tuple) or not found or any(type(seed) is not int for seed in found):
        raise MlplibError(f"seeds must be {SEEDS}, not {seeds!r}")
    for seed in found:
        if not 0 <= seed < 2**32:
            raise MlplibError(f"seeds must be at least 0 and below 2**32, but {seed} is not")
        if found.count(seed) > 1:
            raise MlplibError(f"seed {seed} is given twice: name every seed once")
    return tuple(found)
