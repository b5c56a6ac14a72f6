#!/usr/bin/env bash
# nbclient 0.11.0 with ipykernel 7.4.0: what a task prints in a later cell is missing from the executed notebook.
# Expected: the lines of a task that one cell starts and another awaits, below either of them. Seen: they are nowhere.
# The kernel sends a task's output in the name of the cell that started it, so that Jupyter shows it there; nbclient
# keeps what comes in the name of the cell that it executes, and drops everything else. This holds for `print`,
# `display` and warnings, and for all that execute by nbclient: `jupyter execute`, nbconvert, papermill, Jupyter Book 1.
# There is no message, and the exit status is 0. Lines that the task prints before its first cell ends are there, and so
# are those of threads and what the task returns, so that a first try finds the output in order. ipykernel 6.31.0 and
# 6.29.5 also send the output of threads in the name of the cell that started them, so that it is lost as well.
# The manual of nbclient says that it saves the results of a notebook, and nothing about tasks. We found no issue about
# it; how output got its cell is in pull request 1186 of ipython/ipykernel.
# It matters to pages made from executed notebooks: the warning or the bad value that only a task prints is not on them.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install nbclient==0.11.0 ipykernel==7.4.0 nbformat==5.11.1 nbconvert==7.17.2 papermill==2.7.0
export PATH=$PWD/env/bin:$PATH
cat > make.py << 'PYTHON'
import nbformat.v4 as v4

START = """
import asyncio, warnings

async def evaluate(seed):
    print(f"seed {seed}: started")
    await asyncio.sleep(3)
    print(f"seed {seed}: 71.2 percent")
    warnings.warn(f"seed {seed}: loss is not finite")
    return seed

tasks = [asyncio.create_task(evaluate(seed)) for seed in (0, 1)]
await asyncio.sleep(0.1)
print("first cell")
"""
AWAIT = """
print("second cell")
print("returned", await asyncio.gather(*tasks))
"""
spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
cells = [v4.new_code_cell(source.strip()) for source in (START, AWAIT)]
with open("notebook.ipynb", "w") as file:
    file.write(v4.writes(v4.new_notebook(cells=cells, metadata={"kernelspec": spec})))
PYTHON
cat > compare.py << 'PYTHON'
import json
import sys
from importlib import metadata

from jupyter_client.manager import start_new_kernel

names = ("nbclient", "ipykernel", "nbconvert", "papermill")
print(*(f"{name} {metadata.version(name)}" for name in names), sep=", ")


def lines(text):
    return [line for line in text.splitlines() if not line.startswith(" ")]


def cut(line):
    return line[line.index("UserWarning") :] if "UserWarning" in line else line


sources = ["".join(cell["source"]) for cell in json.load(open("notebook.ipynb"))["cells"]]
manager, client = start_new_kernel()
sent, calls = [[], []], []
for source in sources:
    calls.append(client.execute(source))
    while True:
        message = client.get_iopub_msg(timeout=60)
        cell, content = calls.index(message["parent_header"]["msg_id"]), message["content"]
        if message["msg_type"] == "stream":
            sent[cell] += map(cut, lines(content["text"]))
        if content.get("execution_state") == "idle" and cell == len(calls) - 1:
            break
client.stop_channels()
manager.shutdown_kernel()
print(f"the kernel says\n    in the name of the first cell:  {sent[0]}\n    in the name of the second cell: {sent[1]}")
late = [line for line in sent[0] if "percent" in line or "finite" in line]
as_seen = len(late) == 4
for by in sys.argv[1:]:
    cells = json.load(open(f"{by}.ipynb"))["cells"]
    outputs = [[cut(s) for o in cell["outputs"] for s in lines("".join(o["text"]))] for cell in cells]
    print(f"executed by {by}\n    first cell:  {outputs[0]}\n    second cell: {outputs[1]}")
    as_seen &= outputs == [[line for line in sent[0] if line not in late], sent[1]]
sys.exit(int(not as_seen))
PYTHON
python make.py
{
    cp notebook.ipynb execute.ipynb
    jupyter execute --inplace execute.ipynb
    jupyter nbconvert --execute --to notebook --output nbconvert.ipynb notebook.ipynb
    papermill notebook.ipynb papermill.ipynb
} > said 2>&1 || { cat said; exit 1; }
python compare.py execute nbconvert papermill 2> errors || { cat said errors; echo "CHANGED"; exit 1; }
