"""How much to spend: the four profiles and what each may use. Experiments derive their runs from these."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .errors import one_of


@dataclass(frozen=True)
class Profile:
    """One budget.

    ``datasets``: catalog names to train on from scratch, the first is the main one. ``b_mlp, s_mlp``: the two
    MLPs; ``epochs_no_da, epochs_da``: lengths of training from scratch without and with augmentation, of the
    paper's 100, 1000 and 5000; ``batch_size``; ``learning_rate``: Lion's, the paper's 5e-5 wherever a claim
    is judged; ``seeds``: those a reader's own execution runs; ``examples``: growing training sets for the
    filters; ``permutation_epochs``: length of the runs with permuted pixels.
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
    examples=(1000, 10000),
    permutation_epochs=4,
)

GPU = Profile(
    name="gpu",
    about="the paper's models and training lengths on CIFAR-10: hours on one modern GPU",
    datasets=("cifar10",),
    b_mlp="B-6/Wi-1024",
    s_mlp="S-6/Wi-1024",
    batch_size=4096,
    learning_rate=5e-5,
    epochs_no_da=100,
    epochs_da=(1000, 5000),
    seeds=(0, 1, 2),
    examples=(1000, 5000, 20000),
    permutation_epochs=50,
)

PAPER = replace(
    GPU,
    name="paper",
    about="the paper's models, lengths and single seed: what the paper ran, as far as it can be had",
    seeds=(0,),
    permutation_epochs=100,
)

PROFILES = {profile.name: profile for profile in (SMOKE, LAPTOP, GPU, PAPER)}
"""Every profile by name."""


def profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        MlplibError: there is none.
    """
    one_of("profile", name, tuple(PROFILES))
    return PROFILES[name]
