"""Joining Ray, or starting it on this machine: quietly, without its dashboard, and without usage statistics."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

PATIENCE = 10.0  # s, for a cluster's first answer
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
            else what ``ray.init`` takes: ``head:6379`` on a machine of the cluster, or, with ``ray[client]``
            installed, ``ray://head:10001`` from outside.

    Raises:
        ConnectionError: no cluster at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    begun = not ray.is_initialized()
    if begun:
        _answers(address)
        _join(address)
    try:
        yield
    finally:
        if begun:
            ray.shutdown()


def _answers(address: str) -> None:
    """Refuse at once an address where nobody listens; Ray itself tries for minutes.

    Raises:
        ConnectionError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # a word of Ray's own, such as auto or local
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise ConnectionError(f"a Ray cluster must answer at {address}, got: {error}; begin one with 'ray start "
                              "--head', correct the address, or say auto") from error  # fmt: skip


def _join(address: str) -> None:
    """Join; with ``auto`` make a cluster of this machine where there is none."""
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError:
        if address != "auto":
            raise
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
