"""What is tried next: Optuna's samplers, ours among them, what they are told of, and what earlier runs have found."""
