"""What can keep a network from being trained, told to the person who asked for it."""


class TrainingError(ValueError):
    """A training cannot start or go on; carries the problem and its remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}"


class NonFiniteLoss(TrainingError):
    """The loss is infinite or no number: going on would spoil the weights."""
