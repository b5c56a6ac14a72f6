#!/usr/bin/env bash
# safetensors 0.8.0: NumPy arrays that are transposed, in Fortran order or slices are saved as other numbers.
# Expected: the numbers that were saved, as with 0.7.0; or an error, as `safetensors.torch` raises. Seen: `save` and
# `save_file` write the array's memory from its start, as if it lay in C order. A square matrix comes back transposed,
# so that `weight.T` is saved as `weight`; other shapes come back scrambled, and of every second column come the first
# columns. File, names, shapes and types are valid, and the mean of a transposed array is right.
# The manual says "Tensors need to be contiguous and dense", which arrays in Fortran order are. It is known: issue 825
# of safetensors/safetensors (August 2026), open; 0.8.0 is the newest release.
# It matters to weights that are converted between libraries, where kernels are transposed, and to what scikit-learn
# fits (its PCA is in Fortran order): the network that is loaded is another one, and only its accuracy tells.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
cat > saved.py << 'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

rng = np.random.default_rng(0)
square, wide = rng.standard_normal((256, 256), np.float32), rng.standard_normal((64, 256), np.float32)
arrays = {
    "C order": wide,
    "square, transposed": square.T,
    "wide, transposed": wide.T,
    "Fortran order": np.asfortranarray(wide),
    "every second column": wide[:, ::2],
}
save_file(arrays, "weights.safetensors")
loaded = load_file("weights.safetensors")
print(f"safetensors {safetensors.__version__}, NumPy {np.__version__}: numbers that come back right")
for name, array in arrays.items():
    assert loaded[name].shape == array.shape and loaded[name].dtype == array.dtype
    print(f"{name}: {(loaded[name] == array).mean():.1%}; mean {array.mean():+.4f}, loaded {loaded[name].mean():+.4f}")
right = {name for name, array in arrays.items() if np.array_equal(loaded[name], array)}
undone = np.array_equal(loaded["square, transposed"], square)
print(f"the transposed square matrix comes back as it was before: {undone}")
expected = set(arrays) if sys.argv[1] == "right" else {"C order"}
sys.exit(int(right != expected or undone != (sys.argv[1] == "wrong")))
PYTHON
for release in "0.7.0 right" "0.8.0 wrong"; do
    read -r version numbers <<< "$release"
    python3 -m venv "env-$version"
    "env-$version/bin/pip" -q --disable-pip-version-check install "safetensors==$version" numpy==2.4.6
    "env-$version/bin/python" saved.py "$numbers" || { echo "CHANGED"; exit 1; }
done
