"""A Ray cluster of several nodes on this machine, as a process of its own: tells its addresses, ends with its input.

python -m tests.several_nodes 1 1 1     three nodes, of one CPU each; the first is the head
"""

import json
import socket
import sys

from ray.cluster_utils import Cluster


def free_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


def main(cpus: list[int]) -> None:
    port = free_port()
    head = {"num_cpus": cpus[0], "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for num_cpus in cpus[1:]:
            cluster.add_node(num_cpus=num_cpus)
        cluster.wait_for_nodes()
        sys.stdout.write(json.dumps({"address": cluster.address, "dashboard": f"http://127.0.0.1:{port}"}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()  # until whoever started this is done with it, or dead
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
