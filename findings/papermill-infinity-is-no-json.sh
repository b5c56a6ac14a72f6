#!/usr/bin/env bash
# papermill 2.7.0: a notebook executed with an infinite parameter, or with NaN, is not valid JSON.
# Expected: an .ipynb that every reader of JSON opens, whatever its parameters, or an error. Seen: the cell that is
# injected is right (float('inf')), and the notebook runs; but papermill also keeps the parameters in the notebook's
# metadata, where Python writes Infinity and NaN, which JSON does not have. What reads notebooks in Python opens them,
# nbformat.validate included; orjson does not, and neither does JavaScript's JSON.parse, with which browsers read them.
# It matters to a parameter such as a bound that may be infinite (clipping at inf is none), above all where -p makes
# infinity of a name such as 7e85113. Null for "no bound", or removing the metadata "papermill", avoids it.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install papermill==2.7.0 ipykernel==7.4.0 nbformat==5.11.1 orjson==3.13.0
cat > infinite.py << 'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import orjson

cells = [nbformat.v4.new_code_cell(text) for text in ("clip = 1.0", "print(clip)")]
cells[0].metadata.tags = ["parameters"]
spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), "in.ipynb")


def opened(path, read):
    try:
        return bool(read(path.read_bytes()))
    except orjson.JSONDecodeError:
        return False


print(f"papermill {version('papermill')}, orjson {orjson.__version__}")
found = {}
for value in ("0.5", "inf", "nan"):
    out = Path(f"{value}.ipynb")
    command = ["env/bin/papermill", "--no-progress-bar", "-p", "clip", value, "in.ipynb", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    executed = nbformat.read(out, 4)
    nbformat.validate(executed)
    kept = out.read_text().partition('"parameters": {')[2].split()[1]
    found[value] = executed.cells[-1].outputs[0].text.strip(), kept, opened(out, json.loads), opened(out, orjson.loads)
    printed, kept, python, strict = found[value]
    print(f"-p clip {value}: prints {printed}, keeps {kept}; opened by Python {python}, by a strict reader {strict}")
expected = {
    "0.5": ("0.5", "0.5", True, True),
    "inf": ("inf", "Infinity", True, False),
    "nan": ("nan", "NaN", True, False),
}
sys.exit(int(found != expected))
PYTHON
env/bin/python infinite.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
