"""Many runs within a given time, for a machine that is there only now and then: ``mlplib campaign``.

* :mod:`~mlpstudy.campaign.order`: which runs next, by what they add to the ledger for their cost;
* :mod:`~mlpstudy.campaign.parcel`: the few small files that go home, for ``mlplib results merge``;
* :mod:`~mlpstudy.campaign.workers`: the processes that do the runs;
* :mod:`~mlpstudy.campaign.crowd`: how many runs share the device, measured;
* :mod:`~mlpstudy.campaign.driver`: all of this together;
* :mod:`~mlpstudy.campaign.command`: what is typed and printed.
"""
