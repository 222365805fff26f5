"""This process: what to set before JAX starts."""

from __future__ import annotations

from pathlib import Path


def use_compilation_cache(folder: Path) -> None:
    """Keeps compiled programs in `folder`, so that the next start need not compile again.

    For programs that own their process, such as the command line; a library call leaves
    JAX's configuration to its caller.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
