"""The kernel that executes a notebook: how a signal stops it, and the error when it dies."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import tempfile
import time

import nbformat
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from mlplib.errors import MlplibError
from mlplib.stopping import handling, signal_name

ENGINE = "mlplib"
GRACE_S = 20
"""How long an interrupted cell may take to write its checkpoint. Slurm kills 30 s after its first signal."""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
"""What interrupts the running cell, unless this process ignores it."""


class _Client(PapermillNotebookClient):
    """Makes sure that a cell that ends a notebook, in whatever way, has an error in its outputs."""

    running = False
    stopped_at: float | None = None

    def execute_cell(self, cell, cell_index, **options):
        if self.stopped_at is not None:  # the interrupted cell caught the interrupt and went on
            raise KeyboardInterrupt
        self.running = cell.cell_type == "code"
        try:
            return super().execute_cell(cell, cell_index, **options)
        except DeadKernelError:
            problem = self._cause_of_death()
            line = f"{MlplibError.__name__}: {problem}"
            cell.outputs.append(nbformat.v4.new_output("error", ename="MlplibError", evalue=problem))
            cell.execution_count = cell.execution_count or self.code_cells_executed
            raise CellExecutionError(line, "MlplibError", problem) from None
        except CellExecutionError:
            for output in cell.outputs:
                if output.output_type == "error" and output.ename == "SystemExit":
                    # papermill treats exit status 0 as success.
                    output.evalue = "the cell called sys.exit, so the cells after it were not executed"
            raise
        finally:
            self.running = False

    def _cause_of_death(self) -> str:
        process = self.km.provisioner.process
        code = None if process is None else process.poll()
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )
        if code is None or code >= 0:
            return f"the kernel ended with status {code} before the cell was done (exit, quit or a crash)"
        name = signal_name(-code)
        advice = ": memory ran out, most likely; close other programs or choose a smaller profile"
        used = f"it had used up to {peak / 1e9:.2f} GB of memory"
        return f"the kernel was killed by {name}, {used}" + (advice if name == "SIGKILL" else "")

    def interrupt(self, number, frame) -> None:
        """On a signal, interrupt the running cell. Without one, or at a signal over a second later, stop."""
        now = time.monotonic()
        process = self.km.provisioner.process if self.running and self.km else None
        if self.stopped_at is None and process is not None:
            self.stopped_at = now
            process.send_signal(signal.SIGINT)
            signal.alarm(GRACE_S)
        elif self.stopped_at is None or now - self.stopped_at > 1:
            # One Ctrl-C arrives several times: from the terminal, and from make and Snakemake.
            raise KeyboardInterrupt


class _Engine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, stdout_file=None, extra_arguments=(), **unused):
        silent = logging.Logger("kernel", logging.CRITICAL + 1)  # problems are recorded as errors of cells
        options = {"stdout_file": stdout_file, "extra_arguments": list(extra_arguments), "log": silent}
        # All cells are done, and without this Python searches torch's objects for cycles for another second.
        options["shutdown_kernel"] = "immediate"
        client = _Client(nb_man, kernel_name=kernel_name, timeout=None, **options)
        # What a kernel prints besides its cells' output is about sockets, unless it fails to start.
        with tempfile.TemporaryFile("w+", errors="replace") as printed:
            try:
                heard = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
                with handling(heard, client.interrupt):
                    try:
                        client.execute(stderr=printed)
                    finally:
                        signal.alarm(0)  # while it still has a handler
            except DeadKernelError:
                pass  # the cell that ended the kernel has an error, or was the last one
            except RuntimeError as error:
                printed.seek(0)
                why = " ".join(printed.read().splitlines()[-1:]) or error
                raise MlplibError(f"the Jupyter kernel did not start: {why}") from None


papermill_engines.register(ENGINE, _Engine)
