"""Several processes that form one run, on one machine or many."""

import atexit
import os
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from alexnet_jax.disk.descriptors import STDOUT, discard
from alexnet_jax.errors import MISTAKE, UserError

HEARTBEAT = 30  # seconds without a sign of life after which jax takes a process for dead
GRACE = 60  # seconds that jax waits longer than we do, so that our error line comes before its own
LOST = ("by peer", "remote process exited")  # parts of the errors of Gloo and of NCCL


def is_distributed() -> bool:
    """True if this process has joined others. The answer needs no device."""
    return jax.distributed.is_initialized()


def is_lead_process() -> bool:
    """True for the one process that prints and writes files; the others only compute."""
    return jax.process_index() == 0


def reporting_folder(workdir: Path) -> Path:
    """Returns the folder for this process's metrics: the lead's workdir, or a temporary one."""
    if is_lead_process():
        return workdir
    # All processes run the same code, so the others write metrics too, into a folder of their own.
    folder = Path(tempfile.mkdtemp(prefix="alexnet_jax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def initialize_distributed(coordinator: str, processes: int, process: int, timeout: int) -> None:
    """Connects this process with the others of its run, by flags or by SLURM's variables.

    A process that is alone returns at once.

    Args:
      coordinator: host:port of process 0; empty for a single process, or under SLURM's srun.
      processes: number of processes.
      process: index of this one.
      timeout: seconds to wait for the others.

    Raises:
      UserError: the flags or SLURM's variables are wrong, or not all processes arrived in time.
    """
    if not coordinator and (processes, process) != (1, 0):
        raise UserError(
            "--num_processes and --process_id need --coordinator, the same for every process; give "
            "it, or leave them out"
        )
    # The variable of the step comes first: SLURM_NTASKS counts the tasks of the job, and an
    # interactive step may have only one of them.
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or "1"
    slurm = "SLURM_STEP_NODELIST" in os.environ and tasks != "1"
    if not coordinator and not slurm:
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM before us
    identity = _checked(coordinator, processes, process) if coordinator else {}
    if not _connected(identity, timeout):
        atexit.register(os._exit, MISTAKE)  # keeps jax from logging after our line
        raise UserError(
            f"not all processes of {coordinator or 'the SLURM job'} arrived in {timeout} s; start "
            "every one, or wait longer with --initialization_timeout"
        )
    sys.excepthook = _explain_lost_process
    if jax.default_backend() == "cpu":
        _discard_messages_of_gloo()
    if not is_lead_process():
        # Every line is printed once. Errors, on stderr, are those of the process that has them.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, until the process ends


def _connected(identity: dict[str, Any], timeout: int) -> bool:
    """Connects jax's processes; returns False if some have not arrived after `timeout` seconds.

    Args:
      identity: arguments of jax.distributed.initialize, which takes missing ones from SLURM's
        variables. Whatever it raises is raised.
      timeout: seconds.
    """
    failures: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                **identity,
                initialization_timeout=timeout + GRACE,
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except Exception as error:
            failures.append(error)

    # In a thread, which can be abandoned: when jax's own time runs out, it aborts the process.
    connecting = threading.Thread(target=connect, daemon=True)
    connecting.start()
    try:
        connecting.join(timeout)
    except KeyboardInterrupt:
        os._exit(130)  # keeps jax from logging its own end
    for failure in failures:
        if isinstance(failure, (ValueError, LookupError)):
            raise UserError(
                "the variables of SLURM, Open MPI or jax do not say which process this is "
                f"({failure}); start it with srun, or unset them"
            ) from failure
        raise failure  # in this thread, so that the command sees it
    return not connecting.is_alive()


def _discard_messages_of_gloo() -> None:
    """Keeps stdout for Python's own output until the process ends.

    Gloo, with which CPUs communicate, writes a line to descriptor 1 at the first use of every group
    of devices: in the middle of a line of ours, and for some groups long after the start.
    """
    sys.stdout.flush()
    sys.stdout = open(  # noqa: SIM115, until the process ends
        os.dup(STDOUT), "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors
    )
    discard(STDOUT)


def _explain_lost_process(kind: type, error: BaseException, trace: TracebackType | None) -> None:
    """Ends this process with one line if an uncaught error means that another process has died.

    The arguments are those of `sys.excepthook`.
    """
    lost = isinstance(error, jax.errors.JaxRuntimeError) and any(x in str(error) for x in LOST)
    if not lost:
        return sys.__excepthook__(kind, error, trace)
    print(
        "error: another process of this run has died; start all of them again, and they go on "
        "from the newest checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(MISTAKE)  # jax would first wait for the dead process, then abort with a stack trace


def _checked(coordinator: str, processes: int, process: int) -> dict[str, Any]:
    """Returns the flags as arguments of jax.distributed.initialize; raises UserError if wrong."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={coordinator} is no host:port, such as 10.0.0.1:29500")
    if not 0 <= process < processes:
        raise UserError(
            f"--process_id={process} with --num_processes={processes}; count from 0 below it"
        )
    if process == 0:
        # Only process 0 listens. A port in use would crash jax.
        try:
            socket.create_server(("", int(port))).close()
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--coordinator={coordinator}: port {port} cannot be used here ({error}); "
                "give another, to every process"
            ) from error
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
    }
