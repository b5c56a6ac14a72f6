#!/usr/bin/env bash
# papermill 2.7.0: with -p, one short commit hash in eighteen reaches the notebook as another value.
# Expected: a parameter whose default is a string stays one. Seen: whatever Python's int() or float() reads becomes a
# number, whatever the default is: 0123456 becomes 123456, 12345e7 becomes 123450000000.0, and 7e85113 infinity.
# Underscores are read as in Python's source, so 1_2 becomes 12. The manual says that -p converts and -r does not, and
# names no value to beware of.
# It matters to a report per commit, run or data set whose name is hexadecimal: it works for weeks, then one report is
# about a commit that does not exist. -r keeps the text.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env && env/bin/pip -q --disable-pip-version-check install papermill==2.7.0 ipykernel==7.4.0
cat > show.py << 'PYTHON'
import random
import subprocess
import sys
from importlib.metadata import version

import nbformat

cells = [nbformat.v4.new_code_cell(text) for text in ("commit = 'a default that is a string'", "print(repr(commit))")]
cells[0].metadata.tags = ["parameters"]
spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), "in.ipynb")


def seen(option, commit):
    command = ["env/bin/papermill", "--no-progress-bar", option, "commit", commit, "in.ipynb", "out.ipynb"]
    subprocess.run(command, check=True, capture_output=True)
    return nbformat.read("out.ipynb", 4).cells[-1].outputs[0].text.strip()


def number(text):
    try:
        return float(text) is not None
    except ValueError:
        return False


print(f"papermill {version('papermill')}: what a notebook gets for a commit")
commits = {"a1b2c3d": "'a1b2c3d'", "0123456": "123456", "12345e7": "123450000000.0", "7e85113": "inf"}
found = {commit: (seen("-p", commit), seen("-r", commit)) for commit in commits}
for commit, (converted, raw) in found.items():
    print(f"{commit}: {converted} by -p, {raw} by -r")
hashes = ["".join(random.Random(n).choices("0123456789abcdef", k=7)) for n in range(20_000)]
print(f"of random hashes of 7 digits {sum(map(number, hashes)) / len(hashes):.1%} are numbers")
sys.exit(int(found != {commit: (value, repr(commit)) for commit, value in commits.items()}))
PYTHON
env/bin/python show.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
