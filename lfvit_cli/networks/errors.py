"""What can be wrong with a model name, its keywords or its checkpoint, told to the person who gave it."""


class NetworkError(ValueError):
    """A network cannot be built or loaded as asked; carries the problem and its remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}"


def first_line(error: Exception) -> str:
    """What another library says is wrong, short enough for one line of advice."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


class UnknownModelError(NetworkError):
    """The name is neither in the catalogue nor known to timm."""


class KeywordError(NetworkError):
    """A keyword is unknown to the model, or its value cannot be used."""


class CheckpointError(NetworkError):
    """A checkpoint is missing, unreadable, unsafe, or does not fit the model."""
