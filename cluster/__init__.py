"""Where it runs: joining a Ray cluster, what it has, how workers of one of our own start.

`cluster.connect` imports Ray; this page does not.
"""
