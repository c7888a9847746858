"""A network's decision about one photo, in words."""

from lfvit_cli.figures.page import drawable, fitted, width
from lfvit_cli.looks.look import Answer, Look, StageLook
from lfvit_cli.policies import Criterion

RIGHT, WRONG = "✓", "✗"
_MOST_DIGITS = 7


def title(look: Look, room: float, size: float) -> str:
    """The decision as a sentence, its class names shortened so that all of it has room.

    Args:
        look: what was decided.
        room: in inches.
        size: of the text, in points; it is bold.
    """
    *before, last = look.stages[: look.answered + 1]
    names = [stage.best.name for stage in (last, *(before if len(before) == 1 else ()))]
    rest = room - width(drawable(_sentence(look, *[""] * len(names))), size, "bold")
    return _sentence(look, *(fitted(name, rest / len(names), size, "bold") for name in names))


def _sentence(look: Look, answer: str, doubtful: str = "") -> str:
    """What was answered, and which stages before were not sure; a single one with its doubtful answer."""
    *before, last = look.stages[: look.answered + 1]
    subject = f"Answered after {last.name}" if len(look.stages) > 1 else "Answer"
    words = f"{subject}: {answer}, {comparison(look, last)}"
    if len(before) == 1:
        return f"{words}; {before[0].name} was not sure: {doubtful}, {comparison(look, before[0])}"
    return f"{words}; the {len(before)} stages before were not sure" if before else words


def comparison(look: Look, stage: StageLook) -> str:
    """What a stage's exit was decided by, against its threshold, with as many digits as it takes to be true."""
    if look.policy is None or stage.value is None:
        return probability(stage.best.probability)
    criterion, threshold = look.policy.criterion, look.policy.thresholds[look.stages.index(stage)]
    stands = bool(criterion.exits(stage.value, threshold))
    sign = ("<" if stands else "≥") if criterion.exits_below else ("≥" if stands else "<")
    named = "" if criterion is Criterion.CONFIDENCE else f"{criterion} "
    for digits in range(2, _MOST_DIGITS):
        shown = f"{stage.value:.{digits}f}"
        if bool(criterion.exits(float(shown), float(f"{threshold:.4g}"))) is stands:
            return f"{named}{shown} {sign} {threshold:.4g}"
    return f"{named}just {sign} {threshold:.4g}"


def probability(value: float) -> str:
    """A probability with two decimals."""
    return f"{value:.2f}"


def spent(look: Look) -> str:
    """MACs spent, of the most that could be."""
    share = f" ({100 * look.macs / look.most_macs:.0f} %)" if len(look.stages) > 1 else ""
    whole = f" of {gmacs(look.most_macs)}" if len(look.stages) > 1 else ""
    return f"{gmacs(look.macs)}{whole} GMACs spent{share}"


def gmacs(macs: float) -> str:
    """MACs in units of 10^9, with three digits."""
    value = macs / 1e9
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def mark(look: Look, answer: Answer) -> str:
    """Whether an answer is the label: a tick, a cross, or nothing where no label is known."""
    return "" if look.label is None else RIGHT if answer.index == look.label else WRONG


def effect(look: Look) -> str | None:
    """What the stage that answers did to the answers before it; None where there are none, or no label is known."""
    *earlier, last = look.stages[: look.answered + 1]
    if look.label is None or not earlier:
        return None
    before, after = any(stage.best.index == look.label for stage in earlier), bool(look.right)
    later = last.name
    if before == after:
        return f"{later} {'confirms a right' if after else 'does not correct a wrong'} answer"
    return f"{later} {'corrects a wrong' if after else 'spoils a right'} answer"
