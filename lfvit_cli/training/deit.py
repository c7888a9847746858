"""Training DeiT, or any plain classifier: cross entropy, with a teacher if there is one."""

from torch import Tensor

from lfvit_cli.training.objective import Lesson, Objective


class DeiTObjective(Objective):
    """DeiT (Touvron et al., ICML 2021, arXiv 2012.12877), section 4, without a distillation token."""

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lesson: Lesson | None,
        progress: float,  # noqa: ARG002
        seeds: Tensor,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`."""
        return {"loss": self.classify(self.network(images), targets, lesson)}
