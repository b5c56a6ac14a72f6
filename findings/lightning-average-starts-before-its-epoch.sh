#!/usr/bin/env bash
# lightning 2.6.6: `EMAWeightAveraging(update_starting_at_epoch=3)` averages from the first step of epoch 0 on.
# Expected: as with `update_starting_at_step` at the first step of that epoch: the average has weights of epoch 3 and
# later. Seen: each step is averaged from the start of the training, as if nothing had been said; the setting only adds
# one more update with the last weights of each later epoch, which count twice. It has an effect as a start only if
# `update_starting_at_step` is set too, to a step beyond the end. And if the start is beyond the end of the training, as
# a step that was counted for a larger data set, the trained weights are replaced by those before the first step.
# Neither has a warning, and the network that is left is the one that is saved and tested.
# The manual says that the parameters are replaced with the averaged values after the training, and of this class only
# that it is an exponential moving average. Issue 21724 of Lightning-AI/pytorch-lightning reports that validations
# before the start are of the initial weights. We found no report of the epoch, nor of the end.
# It matters to short trainings with averaging from their last third: the average has the weights of the first epochs.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 lightning==2.6.6 torchmetrics==1.9.0 numpy==2.4.6
cat > averaging.py << 'PYTHON'
import logging
import sys
import warnings

warnings.simplefilter("ignore")  # of data loaders without workers, and while importing
logging.disable()  # what hardware there is

import lightning  # noqa: E402
import torch  # noqa: E402
from lightning.pytorch.callbacks import EMAWeightAveraging  # noqa: E402

EPOCHS, STEPS = 5, 100
QUIET = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)


class Counter(lightning.LightningModule):
    """A network of one weight, which is the number of steps that were made."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch):
        return -self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1.0)


def averaged(**settings):
    """The weight after a training, and the number of updates of the average."""
    model, averaging = Counter(), EMAWeightAveraging(decay=0.999, **settings)
    trainer = lightning.Trainer(max_epochs=EPOCHS, accelerator="cpu", callbacks=averaging, **QUIET)
    trainer.fit(model, torch.utils.data.DataLoader(torch.zeros(STEPS, 1)))
    return round(model.weight.item()), averaging._average_model.n_averaged.item()


print(f"lightning {lightning.__version__}: average of a weight that is 1 after a step and {EPOCHS * STEPS} at last")
cases = [{}, {"update_starting_at_step": 3 * STEPS}, {"update_starting_at_epoch": 3}]
cases += [{"update_starting_at_epoch": 3, "update_starting_at_step": 10**9}, {"update_starting_at_step": 10**9}]
found = []
for settings in cases:
    found.append(averaged(**settings))
    print("{}: weight {}, {} updates".format(settings or "no setting", *found[-1]))
everything, by_step, by_epoch, epochs_only, never = found
as_seen = everything[0] < 120 and by_step[0] > 300 and by_step[1] == 200 and never == (0, 0)
as_seen &= by_epoch[0] < 120 and by_epoch[1] == 502 and epochs_only[0] >= 400 and epochs_only[1] == 2
sys.exit(int(not as_seen))
PYTHON
env/bin/python averaging.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
