"""A trial's own process: what trains there, hears its reports, and leaves the process as it was."""
