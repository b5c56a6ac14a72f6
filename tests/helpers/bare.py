"""A process that can import nothing but torch, NumPy and filelock, as on a machine where nothing can be
installed. ``import bare`` first in its program; torch itself may come as the newest there is.
"""

import importlib.machinery
import sys

ALLOWED = {
    "mlplib",
    "mlpstudy",
    "torch",
    "numpy",
    "filelock",
    # What torch itself asks for or tries to import.
    *("torchgen", "functorch", "triton", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec"),
    *("typing_extensions",),
}
ELSEWHERE = ("safetensors", "scipy", "PIL", "rich", "pyarrow", "torchvision", "pydantic", "typer")


class Bare(importlib.machinery.PathFinder):
    """Finds nothing but the standard library and what is allowed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        standard = top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if standard or top in ALLOWED else None


sys.meta_path[:] = [Bare if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
for module in ELSEWHERE:
    try:
        __import__(module)
    except ImportError:
        pass
    else:
        raise SystemExit(f"{module} was found: the test tests nothing")
