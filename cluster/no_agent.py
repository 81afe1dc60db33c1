"""Stands where Ray's dashboard agent would (2.60), in a cluster that has no dashboard for it to serve.

The raylet starts one, waits for it to say where it listens, and ends when it does. Without a dashboard it listens
nowhere; to say so, Ray's own imports Ray and aiohttp first: a second and a half of a core, while all else waits.

python -I -S no_agent.py … --session-dir=FOLDER --node-id=NODE
"""

import os
import sys

_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
_NOWHERE = "-1"


def main() -> None:
    """Say that nobody listens, then wait for the end of the raylet, which holds the other end of stdin."""
    named = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
    for port in _PORTS:
        path = os.path.join(named["session-dir"], f"{port}_{named['node-id']}")
        with open(f"{path}.part", "w") as file:
            file.write(_NOWHERE)
        os.replace(f"{path}.part", path)  # never half written: it is looked for all the time
    sys.stdin.read()


if __name__ == "__main__":
    main()
