"""One measurement in a process of its own: `python -m benchmarks.measure trials ours --size fast --repeat 0`.

It writes its figures to standard output as one line of JSON; everything else that is said there comes before.
"""

import argparse
import json
import signal

from benchmarks.catalogue import BENCHMARKS
from benchmarks.figures import SIZES


def main() -> None:
    """Measure what was typed."""
    # A session that gives up on this process asks it to end so: clusters and stock programs are ended with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("variant")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--repeat", type=int, default=0)
    typed = parser.parse_args()
    figures = BENCHMARKS[typed.benchmark].variants[typed.variant](typed.size, typed.repeat)
    print(json.dumps([figure._asdict() for figure in figures]), flush=True)


if __name__ == "__main__":
    main()
