"""A Ray cluster of several nodes on this machine, as a process of its own: tells its addresses, ends with its input.

Each line of its input is another node that joins; `kill 127.0.0.2` has one die instead.

python -m tests.several_nodes 1 1 1     three nodes, of one CPU each; the first is the head
python -m tests.several_nodes 4:1 4:1   two nodes, of four CPUs and one GPU each; both are only said to be there
"""

import json
import os
import random
import socket
import sys
from typing import Any

from ray.cluster_utils import Cluster

# The nodes read these as they start. Else trials would wait until other tests leave them a core, and each driver would
# have a process started for each core that no trial gets.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")

ADDED: dict[str, Any] = {}  # address -> node


def free_port() -> int:
    """One that nobody else is given meanwhile: below those that the system and Ray hand out (from 32,768; to 19,999)."""
    while True:
        with socket.socket() as there:
            try:
                there.bind(("127.0.0.1", random.randint(20_000, 32_000)))
            except OSError:
                continue
            return int(there.getsockname()[1])


def resources(node: str) -> dict[str, int]:
    num_cpus, _, num_gpus = node.partition(":")
    # Each node's agent takes jobs at a port; Ray's own choice is one and the same for every cluster of a machine.
    return {"num_cpus": int(num_cpus), "num_gpus": int(num_gpus or 0), "dashboard_agent_listen_port": free_port()}


def add(cluster: Cluster, node: str) -> None:
    # All of 127.0.0.0/8 is this machine: so each node has an address of its own.
    address = f"127.0.0.{len(ADDED) + 2}"
    ADDED[address] = cluster.add_node(**resources(node), node_ip_address=address)


def main(nodes: list[str]) -> None:
    port = free_port()
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args={**resources(nodes[0]), **dashboard})
    try:
        for node in nodes[1:]:
            add(cluster, node)
        cluster.wait_for_nodes()
        sys.stdout.write(json.dumps({"address": cluster.address, "dashboard": f"http://127.0.0.1:{port}"}) + "\n")
        sys.stdout.flush()
        for line in sys.stdin:  # until whoever started this is done, or dead
            verb, _, address = line.strip().partition(" ")
            if verb == "kill":
                cluster.remove_node(ADDED[address], allow_graceful=False)
            else:
                add(cluster, verb)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
