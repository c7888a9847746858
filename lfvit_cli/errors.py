"""What can go wrong, told to the person at the terminal: every error has a problem and a remedy."""


class UserError(ValueError):
    """Something cannot be done as asked.

    Attributes:
        problem: what is wrong, without a closing full stop.
        remedy: what the user can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        # Both go to ValueError as they are: an exception is rebuilt from its arguments when it leaves a process.
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}"


class NetworkError(UserError):
    """A network cannot be built or loaded as asked."""


class UnknownModelError(NetworkError):
    """The name is neither in the catalogue nor known to timm."""


class KeywordError(NetworkError):
    """A keyword is unknown to the model, or its value cannot be used."""


class CheckpointError(NetworkError):
    """A checkpoint is missing, unreadable, unsafe, or does not fit the model."""


class PolicyError(UserError):
    """An exit policy is not readable, or is not one for this network."""


class ImagesError(UserError):
    """Images cannot be found, read or prepared."""


class UnreadableImageError(ImagesError):
    """One file is missing, damaged or no image: a run may skip it and go on."""


class RuntimeSettingError(UserError):
    """The device, precision or batch cannot be had on this machine."""


class AlreadyTold(RuntimeSettingError):
    """What all processes do together has failed, and another of them tells why."""


class MeasureError(UserError):
    """A measurement cannot be made as asked."""


class PredictionsError(MeasureError):
    """A predictions file cannot be read, or holds what cannot be."""


class TrainingError(UserError):
    """A training cannot start or go on."""


class NonFiniteLoss(TrainingError):
    """The loss is infinite or no number: going on would spoil the weights."""


class AnalysisError(UserError):
    """The predictions cannot answer the question."""


class UnreachableTargetError(AnalysisError):
    """No exit threshold reaches the budget or the accuracy asked for."""


class ResultsError(UserError):
    """Results cannot be stored or read as asked."""


class UnwritableOutput(ResultsError):
    """The place for the results cannot be written to."""


def first_line(error: BaseException) -> str:
    """What another library says is wrong, short enough for one line of advice."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
