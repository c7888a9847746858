"""What can go wrong with results."""


class ResultsError(ValueError):
    """Results cannot be stored or read as asked.

    Attributes:
        problem: What is wrong.
        remedy: What to do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy


class UnwritableOutput(ResultsError):
    """The place for the results cannot be written to."""
