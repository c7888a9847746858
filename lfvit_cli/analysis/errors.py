"""What an analysis cannot answer, told to the person who asked."""


class AnalysisError(ValueError):
    """The predictions cannot answer the question; carries the problem and its remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy


class UnreachableTargetError(AnalysisError):
    """No exit threshold reaches the budget or the accuracy asked for."""
