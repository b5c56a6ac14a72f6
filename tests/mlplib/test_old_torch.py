"""Where nothing can be installed, torch and NumPy do: every run of every experiment is planned and trained.

The oldest torch is too large to install for a test. Here it is a process that can import nothing else.
"""

import json
import subprocess
import sys
import textwrap

from small_runs import environment

from mlplib.specs import KINDS

PROGRAM = """
    import bare, dataclasses, json, sys

    import torch
    from mlplib import planning, training
    from mlplib.errors import Interrupted
    from mlplib.executor import Executor
    from mlpstudy.experiments import EXPERIMENTS, experiment
    from mlpstudy.profiles import profile
    from mlpstudy.evidence.records import read_records
    from mlplib.store import RunStore
    from mlplib.specs import DataSpec, RunSpec
    from mlplib.stopping import StopRequest

    torch.set_num_threads(1)
    cpu, store = torch.device("cpu"), RunStore(sys.argv[1])

    def smaller(spec):
        changes = {}
        for field in dataclasses.fields(spec):
            value = getattr(spec, field.name)
            if isinstance(value, RunSpec):
                changes[field.name] = smaller(value)
            elif isinstance(value, DataSpec):
                changes[field.name] = dataclasses.replace(value, examples=64, held_out=None)
        if spec.kind in ("train", "finetune"):
            changes |= dict(batch_size=32, epochs=2, evaluate_at=(2,))
        if getattr(spec, "keep_at", ()):
            changes["keep_at"] = (1,)
        if spec.kind == "probe":
            changes |= dict(epoch=1 if spec.epoch else spec.epoch)
            changes |= dict(batch_size=32, epochs=1) if spec.method == "linear" else {}
        if spec.kind == "evaluate" and spec.crops:
            changes["crops"] = 2
        if spec.kind == "timing":
            changes["seconds"] = 0.1
        return dataclasses.replace(spec, **changes)

    specs = [smaller(s) for name in EXPERIMENTS for s in experiment(name).runs(profile("smoke"), (0,))]
    specs = list({spec.id: spec for spec in specs}.values())
    plan = planning.plan(specs, store, cpu)
    assert plan.cached == 0 and plan.flops > 0
    executor = Executor(store, device=cpu, checkpoint_every=0.0)
    try:
        Executor(store, device=cpu, stop=StopRequest(deadline=0.0)).record(specs[0])
    except Interrupted:
        pass
    else:
        raise SystemExit("not stopped")
    records = executor.records(specs)
    assert planning.plan(specs, store, cpu).missing == ()
    lines = [json.dumps(record.to_json(), allow_nan=False) for record in records]
    path = store.root / "published.jsonl"
    path.write_text("\\n".join(lines))
    assert read_records(path) == records

    own = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    kinds = sorted({(r.spec.kind, r.status) for r in records})
    print(json.dumps({"runs": len(records), "kinds": kinds, "imported": sorted(own)}))
"""


def test_every_run_of_the_smoke_profile_with_torch_and_numpy_only(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    named = sorted(kind for kind in KINDS if kind != "checkpoint")  # whose file is somebody else's
    assert found["kinds"] == [[kind, "completed"] for kind in named]
    assert found["runs"] >= 50
    assert {"torch", "numpy", "mlplib"} <= set(found["imported"])
    heavy = {
        "pandas",
        "scipy",
        "matplotlib",
        "safetensors",
        "pydantic",
        "typer",
        "rich",
        "PIL",
        "torchvision",
    }
    assert not heavy & set(found["imported"])


def test_a_campaign_with_torch_and_numpy_only(tmp_path):
    """Its workers are free here; that runs need no more is what the test above shows."""
    words = [
        "label-smoothing",
        "-P",
        "smoke",
        "--seeds",
        "0",
        "--minutes",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    program = "import bare, sys; from mlpstudy.campaign.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "6 runs done, none left" in done.stdout
    again = subprocess.run([*command, "--minutes", "0"], env=environment(), capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (2, "mlplib: --minutes must be a number above 0, not 0\n")
