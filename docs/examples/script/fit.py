"""A script as one has it: fits a parabola to points with noise, and prints a line an epoch. It knows of no search."""

import argparse
import random

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--learning-rate", type=float, default=0.05)
parser.add_argument("--momentum", type=float, default=0.0)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

points = random.Random(0)
xs = [points.uniform(-1, 1) for _ in range(200)]
pairs = [(x, 2 * x * x - x + points.gauss(0, 0.1)) for x in xs]
training, validation = pairs[:150], pairs[150:]

order = random.Random(options.seed)
weights, speeds = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
for epoch in range(1, options.epochs + 1):
    for x, y in order.sample(training, len(training)):
        powers = (1.0, x, x * x)
        error = sum(weight * power for weight, power in zip(weights, powers, strict=True)) - y
        for place, power in enumerate(powers):
            speeds[place] = options.momentum * speeds[place] - options.learning_rate * error * power
            weights[place] += speeds[place]
    fitted = [weights[0] + weights[1] * x + weights[2] * x * x for x, _ in validation]
    loss = sum((fit - y) ** 2 for fit, (_, y) in zip(fitted, validation, strict=True)) / len(validation)
    print(f"epoch {epoch}: loss {loss:.6f}")
