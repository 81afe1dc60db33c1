"""One seed comes in; every other is derived from it."""

import hashlib


def derived(seed: int, *path: str | int) -> int:
    """A seed in [0, 2**31) of its own for `path`, say ("trial", 17); unrelated to its neighbours'."""
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
