"""A trained model as a small web application: on one machine, or on a cluster by Ray Serve."""

from search.serve.on_ray import ServingOnRay, serving_on_ray
from search.serve.server import Serving, serving

__all__ = ["Serving", "ServingOnRay", "serving", "serving_on_ray"]
