"""What can go wrong while measuring."""


class MeasureError(ValueError):
    """A measurement cannot be made as asked.

    Attributes:
        problem: What is wrong.
        remedy: What to do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy
