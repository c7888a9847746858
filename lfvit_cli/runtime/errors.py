"""What can be wrong with where and how a network is to run."""


class RuntimeSettingError(ValueError):
    """The device, precision or batch cannot be had on this machine; carries the problem and its remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}"
