"""The tests of a training run, on its way and at its end."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sopose.core.engine.checkpointer import Checkpointer
from sopose.core.engine.distributed import current_world, take_buffers_of_first
from sopose.core.utils.errors import UserError
from sopose.data.eval_set import EvalSet
from sopose.inference.evaluation import EvaluationPlan, evaluate_model
from sopose.training.learner import Learner

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RunEvaluation:
    """Tests a run's network on all test splits, and keeps the best checkpoint by a metric on the first of them."""

    learner: Learner
    checkpointer: Checkpointer
    test_sets: list[EvalSet]
    plan: EvaluationPlan
    metric: str

    def __call__(self, iteration: int) -> None:
        """Save, test and report the network after so many iterations."""
        self.checkpointer.save(iteration)  # what is interrupted from here on continues after this step
        tested = self.learner.tested
        take_buffers_of_first(tested)
        device = next(self.learner.model.parameters()).device
        for place, test_set in enumerate(self.test_sets):
            scores = evaluate_model(tested, test_set, self.plan, device, f"{iteration} iterations")
            if scores is not None and place == 0:
                _keep_best(self.checkpointer, iteration, self.metric, scores.overall)

    def amid_training(self, iteration: int) -> None:
        """The same on the way: where the test fails, a line says so and the training continues."""
        try:
            self(iteration)
        except UserError as error:
            if current_world().size > 1:  # the others don't know of it
                raise
            logger.error("the evaluation after %d iterations failed, the training continues: %s", iteration, error)


def _keep_best(checkpointer: Checkpointer, iteration: int, metric: str, values: dict[str, float]) -> None:
    """Keep the checkpoint just evaluated where it is the best by SOLVER.BEST_METRIC on the first split."""
    if metric not in values:
        logger.warning("SOLVER.BEST_METRIC=%s was not measured (known: %s); no best is kept", metric, ", ".join(values))
    elif checkpointer.keep_best(iteration, metric, values[metric]):
        logger.info("best so far: %s %.1f %% after %d iterations", metric, 100 * values[metric], iteration)
