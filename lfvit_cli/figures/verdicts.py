"""A network's decision about one photo, in words."""

from lfvit_cli.figures.texts import fitted, width
from lfvit_cli.measure.looks import Answer, Look, StageLook

RIGHT, WRONG = "✓", "✗"
_MOST_DIGITS = 7


def title(look: Look, room: float, size: float) -> str:
    """The decision as a sentence, its class names shortened so that all of it has room.

    Args:
        look: what was decided.
        room: in inches.
        size: of the text, in points; it is bold.
    """
    first, last = look.stages[0], look.stages[look.answered]
    answers: tuple[Answer, ...] = (look.answer,)
    if len(look.stages) == 1:
        words = f"Answer: {{}}, {_plain(look.answer)}"
    elif look.answered == 0:
        words = f"Answered after {first.name}: {{}}, {comparison(look, first)}"
    else:
        doubt = f"{first.name.capitalize()} unsure ({{}}, {comparison(look, first)})"
        words, answers = f"{doubt}; {last.name} answers {{}}, {_plain(last.best)}", (first.best, last.best)
    rest = room - width(words.replace("{}", ""), size, "bold")
    return words.format(*(fitted(answer.name, rest / len(answers), size, "bold") for answer in answers))


def comparison(look: Look, stage: StageLook) -> str:
    """A stage's confidence against the threshold, with as many digits as it takes to be true."""
    threshold = f"{look.threshold or 0.0:g}"
    stands = stage is look.stages[look.answered]
    sign = "≥" if stands else "<"
    for digits in range(2, _MOST_DIGITS):
        shown = f"{stage.best.probability:.{digits}f}"
        if (float(shown) >= float(threshold)) is stands:
            return f"{shown} {sign} {threshold}"
    return f"just {sign} {threshold}"


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
    """What the later stages did to the first answer; None where one stage answered, or no label is known."""
    if look.label is None or look.answered == 0:
        return None
    before, after = look.stages[0].best.index == look.label, bool(look.right)
    later = look.stages[look.answered].name
    if before == after:
        return f"{later} {'confirms a right' if after else 'does not correct a wrong'} answer"
    return f"{later} {'corrects a wrong' if after else 'spoils a right'} answer"


def _plain(answer: Answer) -> str:
    return probability(answer.probability)
