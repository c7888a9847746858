"""Training DVT: all three parts together, each on the labels."""

from torch import Tensor

from lfvit_cli.training.objectives import StagesObjective


class DVTObjective(StagesObjective):
    """The sum of the three stages' cross entropies (Wang et al., NeurIPS 2021)."""

    def combine(self, losses: Tensor) -> Tensor:
        """(3,) losses to their sum."""
        return losses.sum()


OBJECTIVE = DVTObjective
