"""Train MLPs on images and measure the result.

These files explain how a training works. Read them in this order; nothing else is needed to follow one::

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
