"""The interpreter, packages and environment variables, checked and set before jax is imported.

`set_up` runs when `alexnet_jax` is imported, before any other of its modules. Python 3.6 must be
able to read this file and errors.py, so that an interpreter that is too old gets its error line.

Workarounds for CPUs
--------------------
Each makes up for something that XLA or glibc does on a CPU. The column "without it" gives images
per second and peak memory of the full-size step at batch 128 on two cores, jaxlib 0.10.2, without
this one workaround. With all of them they are 31.2 and 2.80 GB (results/speed/what_each_gave.md;
"-": not in that file). `python results/speed/what_each_gave.py` measures the first six rows again,
each undone by itself; the last column says how to take out the others by hand.

workaround                               where                    without it     to try without
XLA's flags: YNN for single products     CPU_FLAGS below          14.7, 3.91 GB  the script
  only; the order that holds least
freed memory stays in the process        keep_freed_memory below  29.8, 2.81 GB  the script
one step at a time                       parallel                 32.2, 6.92 GB  the script
LRN: own gradient, square roots, sums    nets, response_norm      29.8, 3.09 GB  the script
  of shifted slices
max pooling: own gradient, one           nets, max_pool           27.5, 3.29 GB  the script
  direction after the other
gradient of a bias as a product with     nets, add_bias           32.5, 2.90 GB  the script
  ones (for the CIFAR-10 nets)
metrics are written at once, not one     the training loop        -              goes with one step
  step later                                                                       at a time
parts of a batch are unrolled: XLA's     train.accumulate_steps   -              lax.scan
  convolutions are slow in a loop
the update waits for all gradients by    the training step        -              an optimization
  a data dependency                                                                barrier
a batch is used where it lies            parallel, one device     -              jax.device_put
batches in large pages, used again       data, records            -              np.empty
initial weights are drawn as flat        nets, initial weights    -              no reshape
  arrays: quicker to compile

Only CPU_FLAGS depends on the version of jaxlib: an unknown flag aborts the process. When jaxlib is
upgraded, check that it accepts both flags, measure with and without them, and raise KNOWN_BELOW.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

from alexnet_jax.errors import UserError, stop

OLDEST, TOO_NEW = (3, 11), (3, 14)  # Python; TensorFlow has no release for TOO_NEW
SUPPORTED = "Python 3.11, 3.12 or 3.13"
TOP = Path(__file__).resolve().parent.parent
QUICKSTART = TOP / "launch" / "quickstart.sh"

# What training imports, by the names that Python knows. TensorFlow is not among them: only some
# data sets need it.
REQUIRED = (
    "absl",
    "flax",
    "isal",
    "jax",
    "jaxlib",
    "ml_collections",
    "numpy",
    "optax",
    "orbax",
    "rich",
    "simplejpeg",
    "tensorboardX",
    "tqdm",
)

CPU_FLAGS = {
    # YNN for plain dot products only: its other fusions make this net 1.6 to 2 times slower and
    # have a reported miscompute.
    "--xla_cpu_experimental_ynn_fusion_type": "individual_dot",
    # The order of work that holds least: a quarter less for the full-size step, as fast.
    "--xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}
# The versions of jaxlib that accept these flags and gain by them (results/speed/jaxlib.md). Others
# may abort on them.
KNOWN_FROM, KNOWN_BELOW = (0, 10, 2), (0, 13)

# Parameters of glibc's mallopt and their values: freed memory is never given back to the kernel,
# large blocks are not mapped separately, and all threads share one arena.
KEEP = {-1: -1, -4: 0, -8: 1}  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX

# Variables of jax that are set below. Processes that we start inherit them.
CACHE, CACHE_EVERYTHING = OURS = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
)
TRUE = ("1", "true", "t", "yes", "y", "on")  # as jax reads its variables
# Modes of jax that this program is not written for, and their values.
UNSUPPORTED = {
    "JAX_ENABLE_X64": TRUE,
    "JAX_NO_EXECUTION": TRUE,
    "JAX_NUMPY_DTYPE_PROMOTION": ("strict",),
    "JAX_NUMPY_RANK_PROMOTION": ("raise",),
    "JAX_TRANSFER_GUARD": ("disallow", "disallow_explicit"),
}


def set_up() -> None:
    """Checks interpreter, packages and, for a command, variables; then sets what jax reads.

    In a command (`python -m alexnet_jax.X`, `python launch/X.py`) an error is one line on stderr
    and exit code 2.

    Raises:
      ImportError: a program imports the package, and the interpreter is too old or a package is
        missing.
    """
    try:
        check_python(sys.version_info[:2])
        check_packages(*REQUIRED)
        if is_command():
            check_variables()
    except UserError as error:
        if is_command():
            stop(error)
        raise ImportError(str(error)) from error
    set_cpu_flags()
    set_compilation_cache()


def is_command() -> bool:
    """True if this process is one of the project's commands, False if a program imports it."""
    # With `python -m`, argv[0] is "-m" while Python looks for the module and imports its package.
    return sys.argv[0] == "-m" or Path(sys.argv[0]).resolve().parent == TOP / "launch"


def check_python(version: tuple) -> None:
    """Raises UserError if this version of Python, (major, minor), is too old."""
    if version < OLDEST:
        found = ".".join(map(str, version))
        advice = activation() or f"run: bash {near(QUICKSTART)}"
        raise UserError(f"{sys.executable} is Python {found}; {SUPPORTED} is needed; {advice}")


def check_packages(*names: str) -> None:
    """Raises UserError if one of these packages is not installed, with the way to install it.

    A command that needs an optional package calls this before it begins any work:
    `check_packages("onnx", "onnxruntime")`.
    """
    missing = [name for name in names if not is_installed(name)]
    if not missing:
        return
    listed = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
    if set(missing).isdisjoint(REQUIRED):
        raise UserError(f"{listed} not installed; run: pip install {' '.join(missing)}")
    raise UserError(f"{listed} not installed for {sys.executable}; {installation()}")


def is_installed(name: str) -> bool:
    """True if Python finds this package; nothing is imported."""
    import importlib.util  # `import importlib` alone does not bring `util`

    return importlib.util.find_spec(name) is not None


def installed_versions(names: tuple) -> dict:
    """Returns the versions of those packages that are installed, by name."""
    from importlib import metadata

    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def near(path: Path) -> str:
    """Returns the path as seen from the working directory."""
    return os.path.relpath(str(path))


def activation() -> str:
    """Returns the command that activates .venv; "" if there is none or it is active."""
    script = TOP / ".venv" / "bin" / "activate"
    if script.exists() and Path(sys.prefix).resolve() != script.parent.parent.resolve():
        return f"run: source {near(script)}"
    return ""


def installation() -> str:
    """Returns the command that makes the required packages importable, for an error message."""
    if activation():
        return activation()
    if sys.version_info[:2] >= TOO_NEW:
        newer = ".".join(map(str, sys.version_info[:2]))
        wanted = f"install {SUPPORTED}, then run: bash {near(QUICKSTART)}"
        return f"TensorFlow has no release for Python {newer}; {wanted}"
    if sys.prefix != sys.base_prefix:  # in a virtual environment of the user
        return f"run: pip install -r {near(TOP / 'requirements.txt')}"
    return f"run: bash {near(QUICKSTART)}, then: source {near(TOP / '.venv/bin/activate')}"


def check_variables() -> None:
    """Raises UserError for environment variables that no command can run with."""
    given = os.environ
    for name, values in UNSUPPORTED.items():
        if given.get(name, "").lower() in values:
            raise UserError(
                f"{name}={given[name]} is a mode of jax that this program is not written for; "
                f"run: unset {name}"
            )
    devices = given.get("JAX_NUM_CPU_DEVICES", "1")
    if not devices.isdigit() or int(devices) < 1:
        raise UserError(f"JAX_NUM_CPU_DEVICES={devices} has to be a whole number from 1")
    check_platforms(given.get("JAX_PLATFORMS", ""))
    check_xla_flags(given.get("XLA_FLAGS", ""))
    # Only if the user has set one: the check imports jax, which takes seconds.
    if any(name.startswith("JAX_") and name not in OURS for name in given):
        check_jax_variables()


def check_platforms(given: str) -> None:
    """Raises UserError if JAX_PLATFORMS names a platform that no installed package provides."""
    for name in given.split(",") if given else ():
        if not is_platform(name):
            raise UserError(
                f"JAX_PLATFORMS={given} names {name!r}, for which nothing is installed; install "
                'it (for NVIDIA GPUs: pip install "jax[cuda12]"), or set JAX_PLATFORMS=cpu'
            )


def is_platform(name: str) -> bool:
    """True if jax, or an installed plug-in of jax, supports this platform."""
    if name in ("cpu", "tpu"):
        return name == "cpu" or is_installed("libtpu")
    import pkgutil
    from importlib import metadata, util

    # jax finds its plug-ins in these two ways: as modules in jax_plugins, and as entry points.
    spec = util.find_spec("jax_plugins")
    folders = list(spec.submodule_search_locations) if spec else []
    plugins = [module.name for module in pkgutil.iter_modules(folders)]
    plugins += [point.name for point in metadata.entry_points(group="jax_plugins")]
    words = ("cuda", "rocm") if name == "gpu" else (name.lower(),)
    return bool(name) and any(word in plugin.lower() for word in words for plugin in plugins)


def check_xla_flags(given: str) -> None:
    """Raises UserError if XLA does not accept these flags, with which it would abort the process.

    The flags are tried in another process, which takes a quarter of a second, and only if the user
    has set any.
    """
    # A process that one of our commands started has inherited our own flags.
    ours = {f"{flag}={value}" for flag, value in CPU_FLAGS.items()}
    if ours.issuperset(given.split()):
        return
    program = "from jaxlib import xla_client; xla_client.make_cpu_client()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    said = done.stderr.decode(errors="replace")
    # XLA aborts without a traceback. A traceback means another error, which is not the flags'.
    if done.returncode and "Traceback" not in said:
        # Behind "] ", which ends the log's prefix of time, file and line.
        lines = said.partition("] ")[2].splitlines()
        reason = next((line for line in lines if "Check failed" not in line), "it aborts")
        raise UserError(
            f"XLA_FLAGS={given!r} is not understood ({reason.replace('usage:', 'see')}); correct "
            "it, or run: unset XLA_FLAGS"
        )


def check_jax_variables() -> None:
    """Raises UserError if jax, which reads its variables when it is imported, refuses one."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise UserError(f"a variable of jax is wrong: {error}; correct or unset it") from error


def set_cpu_flags() -> None:
    """Adds CPU_FLAGS to XLA_FLAGS, except those that the user sets, if jaxlib knows them."""
    from importlib import metadata

    given = os.environ.get("XLA_FLAGS", "")
    # XLA also takes the name of a file with flags, to which none can be added.
    if given and not given.startswith("-"):
        return
    parts = metadata.version("jaxlib").split(".")[:3]
    version = tuple(int(x) for x in parts if x.isdigit())
    if KNOWN_FROM <= version < KNOWN_BELOW:
        ours = [f"{flag}={value}" for flag, value in CPU_FLAGS.items() if flag not in given]
        os.environ["XLA_FLAGS"] = " ".join([given, *ours]).strip()


def set_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless the user names another.

    Without a home folder that can be written to, as in containers, nothing is kept.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if cache.is_absolute() and can_be_written(cache):
        os.environ.setdefault(CACHE, str(cache / "alexnet_jax"))
    # 0 seconds: jax would otherwise keep only programs that took a second or more to compile.
    os.environ.setdefault(CACHE_EVERYTHING, "0")


def can_be_written(folder: Path) -> bool:
    """True if this folder, or the nearest of its parents that exists, can be written to."""
    while not os.path.exists(str(folder)):
        folder = folder.parent
    return folder.is_dir() and os.access(str(folder), os.W_OK | os.X_OK)


def keep_freed_memory() -> None:
    """Makes glibc keep the memory that this process frees; called before memory is allocated.

    At every step XLA allocates and frees the memory of the step. For the full-size step on a CPU,
    the kernel would clear half a million new pages each time, a tenth of the step's time. Only
    commands call this function: a library does not change the process of its user.
    """
    import ctypes

    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in KEEP.items():
            libc.mallopt(parameter, value)
