"""``mlplib bench``: how fast training is, beside what the machine can do and beside the usual way to train.

Everything of one table is measured in one process and in turns, round by round, so that a machine that slows
down for a while slows all of it alike. What is reported are medians and quartiles over rounds; a ratio is
taken in each round, and the median of those is what counts.

* ``rounds``: taking turns, medians, ratios
* ``cases``: what is trained, and on what
* ``workloads``: the pieces of a training step that are timed, alone and together
* ``loaders``: ways to get batches, without a network
* ``layers``: single layers under the roofline
* ``tried``: other ways to do a piece, most of which did not help
* ``growth``: time against images, memory against epochs, start-up
* ``targets``: what is to be reached, and whether it was
* ``speed``: all of these in one file; ``accuracy``: what accuracy training reaches, in bf16 and in float32
"""
