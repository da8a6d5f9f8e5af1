"""The Ray host: the engine of one machine, as deployments of Ray Serve. Nothing else of this project knows Ray.

`serving.ray_host:app` is the builder that `serve build`, a Serve config file and KubeRay's RayService import.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve import Application


def app(args: Mapping[str, str]) -> Application:
    """The application of the spec in `args["spec"]`, a path that every node of the cluster can read. Raises SpecError."""
    from engine import SpecError, load_spec
    from serving.ray_host.application import application

    if "spec" not in args:
        raise SpecError("serving.ray_host:app: the argument 'spec' is missing: the path of the application spec")
    return application(load_spec(Path(args["spec"])))
