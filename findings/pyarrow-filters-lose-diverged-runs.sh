#!/usr/bin/env bash
# PyArrow 26.0.1: which rows with NaN a filter reads from a parquet file depends on the file's row groups.
# Expected: `read_table(file, filters=...)` gives the rows that `read_table(file).filter(...)` gives. Seen: a group's
# least and greatest value, by which groups are left out, are taken without NaN, and a filter believes that all values
# lie between them. Of runs that did not get below a loss of 2, all that diverged are lost if no other run of the group
# missed it; `!=` and `is_nan` lose them where the rest of the group has one value. Elsewhere they are read: in a group
# of nothing but NaN, or in a small test with another failure. Files without statistics are read right. It is the same
# through `pyarrow.dataset`, `count_rows` and pandas.
# The manual says that a filter removes the rows that do not match, and names NaN nowhere there; the format tells
# readers to ignore both values when they look for NaN. Issue 34162 of apache/arrow is about `is_null` in groups of only
# NaN; ClickHouse does the same as seen here (issue 118110 of ClickHouse/ClickHouse).
# It matters to tables of runs: the failures are what such a query is for, and the count of them comes out as zero.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
cat > runs.py << 'PYTHON'
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

NAN = float("nan")
losses = [0.5 + run / 1000 for run in range(1000)]  # all below 2, but for the diverged ones
losses[100::200] = [NAN] * 5
times = [NAN if run % 100 == 7 else 60.0 for run in range(1000)]
runs = pa.table({"run": range(1000), "loss": losses, "seconds": times})
loss, seconds = pc.field("loss"), pc.field("seconds")
filters = {
    "not loss < 2": ~(loss < 2),
    "loss is NaN": pc.is_nan(loss),
    "seconds != 60": seconds != 60,
    "seconds is NaN": pc.is_nan(seconds),
    "loss < 1": loss < 1,
}
files = {"groups of 1000": dict(row_group_size=1000), "groups of 1": dict(row_group_size=1)}
files["groups of 1000, no statistics"] = dict(row_group_size=1000, write_statistics=False)
counts = {"in memory": [len(runs.filter(each)) for each in filters.values()]}
for number, (name, options) in enumerate(files.items()):
    pq.write_table(runs, f"{number}.parquet", **options)
    counts[name] = [len(pq.read_table(f"{number}.parquet", filters=each)) for each in filters.values()]
counts["dataset, groups of 1000"] = [ds.dataset("0.parquet").count_rows(filter=each) for each in filters.values()]
print(f"PyArrow {pa.__version__}: rows, of 1000, for the filters " + "; ".join(filters))
for name, found in counts.items():
    print(f"{name}: " + ", ".join(map(str, found)))
slow = [("seconds", "!=", 60.0)]
pandas = [len(pd.read_parquet(f"{number}.parquet", filters=slow)) for number in range(3)]
print(f"pandas {pd.__version__}, seconds != 60 in the three files: " + ", ".join(map(str, pandas)))
read, lost = counts["in memory"], [0, 5, 0, 0, counts["in memory"][-1]]
right = counts["groups of 1"] == counts["groups of 1000, no statistics"] == read == [5, 5, 10, 10, read[-1]]
wrong = counts["groups of 1000"] == counts["dataset, groups of 1000"] == lost
sys.exit(int(not (right and wrong and pandas == [0, 10, 10])))
PYTHON
env/bin/python -W error runs.py || { echo "CHANGED"; exit 1; }
