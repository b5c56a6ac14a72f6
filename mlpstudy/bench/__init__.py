"""``mlplib bench``: how fast training is, compared with the machine's own rates and a conventional loop.

All rows of a table are measured in one process, in interleaved rounds (:mod:`mlplib.timing`), so that a
slow spell of the machine slows all of them alike. Medians and quartiles over rounds are reported; ratios are
computed per round.

* ``rounds``: what is timed, and rows of a results file; ``cases``: networks and data to train
* ``workloads``: a training step and its parts, the machine's rates, single layers; ``reference``: a
  conventional training loop; ``loaders``, ``tried``, ``growth``: loaders, alternatives, growth of costs
* ``speed``: all of these in one file; ``derived``: numbers computed from it; ``targets``: their verdicts
* ``accuracy``: test accuracy in bf16 and in float32
* ``against``, ``worker``: two revisions of the library in interleaved rounds
* ``show``: all results as tables
"""
