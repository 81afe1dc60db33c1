"""Where it runs: joining a Ray cluster and what it has. `cluster.connect` imports Ray; this page does not."""
