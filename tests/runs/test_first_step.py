"""A second start compiles nothing: all of it is in the compilation cache."""

import pytest
from commands import SMALL, run


def misses(cache, workdir):
    """Programs that a start of the main job, with a validation and a save, had to compile."""
    env = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_DEBUG_LOG_MODULES": "jax._src.compiler"}
    done = run("main", *SMALL, "--config.train.steps=2", f"--workdir={workdir}", env=env)
    asked = done.stderr.count("PERSISTENT COMPILATION CACHE MISS for")
    assert asked + done.stderr.count("Persistent compilation cache hit for") >= 5
    return asked


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path):
    cache = tmp_path / "cache"
    assert misses(cache, tmp_path / "first") >= 5
    assert misses(cache, tmp_path / "second") == 0
