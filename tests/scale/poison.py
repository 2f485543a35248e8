"""A task that takes its process with it; apart, so that the next one has little to import."""

import os
from collections.abc import Callable


def poisonous() -> Callable[[str], bytes]:
    """Tasks said back, but one of them kills whoever touches it."""
    return lambda task: os._exit(1) if task == "poison" else task.encode()
