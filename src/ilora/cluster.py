"""Joining Ray, or starting it on this machine: quietly, without its dashboard, and without usage statistics."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # of Ray's own processes
}


def need(*modules: str) -> None:
    """Refuse early where Ray, or something that it needs, is missing.

    Raises:
        ImportError: one of the modules is not installed.
    """
    for module in ("ray", *modules):
        if find_spec(module) is None:
            raise ImportError(f"--ray needs {module}: pip install 'ilora[ray]'")


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Be part of a cluster; one that was joined before the block stays joined after it.

    Args:
        address: ``auto`` for the cluster that this machine belongs to, or for one of its own where there is none;
            else what ``ray.init`` takes, such as ``ray://head:10001``.

    Raises:
        ConnectionError: no cluster at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    begun = not ray.is_initialized()
    if begun:
        _join(address)
    try:
        yield
    finally:
        if begun:
            ray.shutdown()


def _join(address: str) -> None:
    """Join; with ``auto`` make a cluster of this machine where there is none."""
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError:
        if address != "auto":
            raise
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
