"""What can go wrong between a path and a batch, told with its remedy."""


class ImagesError(ValueError):
    """Images cannot be found, read or prepared.

    Attributes:
        problem: what is wrong, without a closing full stop.
        remedy: what the user can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        # Both go to ValueError as they are: an exception is rebuilt from its arguments when it leaves a worker process.
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}"


class UnreadableImageError(ImagesError):
    """One file is missing, damaged or no image: a run may skip it and go on."""
