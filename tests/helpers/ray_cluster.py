"""A Ray cluster on this machine for several runs: starting one takes much longer than most runs do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# In a process of its own, since Ray starts threads that tests which fork would meet.
SCRIPT = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
print(f"address: {cluster.address}", flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def ray_cluster() -> Iterator[tuple[dict[str, str], int]]:
    """The environment of a run on it, and the process that all of its processes come from.

    Its workers have the environment of this process as it is now.
    """
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told = next((line for line in process.stdout if line.startswith(b"address: ")), b"")
        assert told, "no cluster came up"
        try:
            yield os.environ | {"RAY_ADDRESS": told.split()[1].decode()}, process.pid
        finally:
            process.stdin.close()
            process.wait(120)
