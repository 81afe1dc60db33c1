"""What a study may say, and hardly means."""

from search.study import Study
from spaces import Float, Int

# Of a range this much wider than its low end, drawn evenly, hardly anything is ever drawn near that end.
_WIDE = 1000


def hints(study: Study) -> list[str]:
    """A sentence for each."""
    return [
        f"space.{name} is drawn evenly from {parameter.low:g} to {parameter.high:g}, nine in ten above "
        f"{parameter.low + (parameter.high - parameter.low) / 10:g}; with log: true each power of ten is as likely"
        for name, parameter in study.space.parameters.items()
        if isinstance(parameter, Int | Float)
        and not parameter.log
        and 0 < parameter.low <= parameter.high / _WIDE
        and parameter.step in (None, 1)
    ]
