"""The legend of masks without a ``classes.yaml``, from their values.

Two conventions work: 0 and 255 for two classes, and 0, 1, 2 … for any number of classes, where 255
marks unlabelled pixels. Other masks are reported as a problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from eyeshot.data.pairs.legend import FILE, Legend
from eyeshot.data.pairs.listing import Report
from eyeshot.data.pairs.survey import Seen
from eyeshot.data.problem import Problem

_WHITE = 255
_NEAR = 32  # so near to black or white lies what JPEG makes of them
_MANY = 4  # values between: fewer are rather classes
_MOST_CLASSES = 64  # more without a name are rather the numbers of objects

TWO = Legend(("background", "foreground"), (0, _WHITE))


def deduce_legend(masks: Sequence[Seen], report: Report) -> Legend:
    """The legend that most of ``masks`` follow; those that do not are reported."""
    soft = [seen for seen in masks if _is_soft(seen)]
    if soft:
        _report_soft(soft, report)
        report_unknown([seen for seen in masks if seen not in soft], TWO, report)
        return TWO
    black_and_white = [seen for seen in masks if _WHITE in seen.tally and _is_two(seen)]
    numbered = [seen for seen in masks if not _is_two(seen)]
    if len(black_and_white) > len(numbered) or not numbered:
        report_unknown(masks, TWO, report)
        return TWO
    for seen in black_and_white:
        message = f"holds 0 and {_WHITE} alone, and {numbered[0].files.target} other numbers"
        cure = f"write {FILE}, with 'ignore: {_WHITE}' if that stands for no class"
        report(Problem(seen.files.target, message, cure))
    return _deduce_numbers(masks, report)


def report_unknown(
    masks: Sequence[Seen], legend: Legend, report: Report, *, named: bool = False
) -> None:
    """Report the masks with values outside ``legend``; ``named`` adds the names of its classes."""
    codes = [legend.spell(code) for code in legend.codes]
    if named:
        codes = [f"{code} ({name})" for code, name in zip(codes, legend.classes, strict=True)]
    known = ", ".join(codes)
    for seen in masks:
        unknown = [code for code in sorted(seen.tally) if not legend.knows(code)]
        if unknown:
            first = unknown[0]
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            message = (
                f"holds {legend.spell(first)} ({seen.tally[first]} pixels){more}, "
                f"which is none of the classes {known}"
            )
            cure = f"repaint it, or name the value in {FILE}"
            if legend is TWO and seen.tally.keys() == {0, unknown[0]}:
                cure = f"repaint it, or make all masks two-valued with --threshold {unknown[0]}"
            report(Problem(seen.files.target, message, cure))


def _deduce_numbers(masks: Sequence[Seen], report: Report) -> Legend:
    used = {code for seen in masks for code in seen.tally}
    ignore = _WHITE if _WHITE in used else None
    used.discard(_WHITE)
    gap = next(number for number in range(len(used) + 1) if number not in used)
    if gap < len(used):
        beyond = next(seen for seen in masks if any(_is_beyond(c, gap) for c in seen.tally))
        value = next(code for code in sorted(beyond.tally) if _is_beyond(code, gap))
        message = f"holds {value} ({beyond.tally[value]} pixels), and no mask holds {gap}"
        cure = f"count classes from 0 without a gap, or name the values in {FILE}"
        if _number_objects(masks):
            message = f"holds {value}, and other masks other numbers: do they number objects?"
            cure = f"learn objects against background with --threshold 1, or name classes in {FILE}"
        report(Problem(beyond.files.target, message, cure))
    elif len(used) > _MOST_CLASSES:
        most = max(masks, key=lambda seen: max(seen.tally))
        message = f"holds numbers up to {max(used)}: do they number objects, not classes?"
        report(Problem(most.files.target, message, f"if they are classes, name them in {FILE}"))
    codes = tuple(sorted(used))
    return Legend(tuple(f"class {code}" for code in codes), codes, False, ignore)


def _number_objects(masks: Sequence[Seen]) -> bool:
    """Whether most of the masks' values occur in only one mask each."""
    found = Counter(code for seen in masks for code in seen.tally if code)
    alone = sum(count == 1 for count in found.values())
    return len(masks) > 2 and len(found) > len(masks) and 2 * alone > len(found)


def _is_soft(seen: Seen) -> bool:
    """Whether a mask is black and white with values in between, as JPEG and smoothing give."""
    codes = sorted(seen.tally.keys() - {0, _WHITE})
    if not codes or codes == list(range(1, len(codes) + 1)) or max(codes) > _WHITE:
        return False  # numbers of classes, or more than 8 bits
    ends = sum(n for code, n in seen.tally.items() if code <= _NEAR or code >= _WHITE - _NEAR)
    both = min(seen.tally) <= _NEAR and max(seen.tally) >= _WHITE - _NEAR
    return both and len(codes) >= _MANY and 2 * ends > sum(seen.tally.values())


def _report_soft(soft: Sequence[Seen], report: Report) -> None:
    for seen in soft:
        between = {code: n for code, n in seen.tally.items() if code not in (0, _WHITE)}
        share = sum(between.values()) / sum(seen.tally.values())
        message = (
            f"holds {len(between)} values between 0 and {_WHITE}, in {share:.1%} of its pixels: "
            "soft edges, or a JPEG's noise"
        )
        cure = "cut them with --threshold 128, or save the mask without smoothing"
        report(Problem(seen.files.target, message, cure))


def _is_beyond(code: int, gap: int) -> bool:
    return code > gap and code != _WHITE


def _is_two(seen: Seen) -> bool:
    """Whether a mask may be black and white."""
    return seen.tally.keys() <= {0, _WHITE}
