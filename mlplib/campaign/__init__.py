"""Many runs within a given time, for a machine that is there only now and then: ``mlplib campaign``.

* :mod:`~mlplib.campaign.order`: which runs next, by what they add to the ledger for their cost;
* :mod:`~mlplib.campaign.parcel`: the few small files that go home, for ``mlplib results merge``;
* :mod:`~mlplib.campaign.workers`: the processes that do the runs;
* :mod:`~mlplib.campaign.crowd`: how many runs share the device, measured;
* :mod:`~mlplib.campaign.driver`: all of this together;
* :mod:`~mlplib.campaign.command`: what is typed and printed.
"""
