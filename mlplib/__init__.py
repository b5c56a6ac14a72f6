"""Train an MLP on images and ask it something.

How a training works is in these files. Read them in this order; nothing else is needed to follow a training::

    mlplib/models.py
    mlplib/specs/parts.py
    mlplib/optim.py
    mlplib/data/dataset.py
    mlplib/data/shaping.py
    mlplib/data/resident.py
    mlplib/data/augment.py
    mlplib/data/batches.py
    mlplib/execution.py
    mlplib/memory.py
    mlplib/step.py
    mlplib/training.py
"""
