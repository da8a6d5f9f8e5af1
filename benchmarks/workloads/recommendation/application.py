"""The folder from which recommendations are served; light enough for a benchmark to read."""

import shutil
from dataclasses import dataclass
from pathlib import Path

GRAPH = "recommend"
HERE = Path(__file__).parent
DECLARED, STEPS = HERE / "graph.yaml", HERE / "steps.py"
USER_FEATURES, ITEM_FEATURES, FACTS, EMBEDDING, CANDIDATES, SLATE = 8, 100, 92, 32, 500, 20
"""Sizes of what the models take and give: see graph.yaml."""


@dataclass(frozen=True, slots=True)
class Application:
    """`folder` holds the spec and all it names, its models below `models`: user_tower and ranker.

    user_tower: `features` FP32 [n, 8] to `embedding` FP32 [n, 32]. ranker: `user` FP32 [1, 8] and `items` FP32 [n, 100] to
    `score` FP32 [n].
    """

    folder: Path

    @property
    def spec(self) -> Path:
        """What to serve."""
        return self.folder / "recommendation.yaml"

    def model(self, name: str) -> Path:
        """Where version 1 of a model belongs."""
        return self.folder / "models" / name / "1" / "model.onnx"

    def write(self) -> None:
        """The spec and its functions; the models are somebody else's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DECLARED, self.spec)
        shutil.copyfile(STEPS, self.folder / "recommendation_steps.py")
