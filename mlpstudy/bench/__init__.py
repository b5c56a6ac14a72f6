"""``mlplib bench``: how fast training is, compared with the machine's own rates and the usual way to train.

Everything of one table is measured in one process, in turns, round by round, so that a slow spell of the
machine slows all of it alike. Medians and quartiles over rounds are reported; ratios are taken per round.

* ``rounds``: the timing harness; ``cases``: what is trained, and on what
* ``workloads``: the pieces of a training step, alone and together; ``reference``: a loop of the usual kind
* ``loaders``, ``roofline``, ``tried``, ``growth``: loaders, single layers, other ways, how costs grow
* ``speed``: all of these in one file; ``derived``: numbers that follow; ``targets``: and whether they are met
* ``accuracy``: what accuracy training reaches, in bf16 and in float32
* ``against``, ``worker``: two revisions of the library, timed in turns
* ``show``: all results as tables
"""
