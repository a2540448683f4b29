"""A search space in Hydra's override syntax, as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep, Transformer
from hydra.errors import HydraException

from semiseg.config.check import globbed
from semiseg.errors import InputError
from semiseg.sweep.storage import import_optuna

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def split_space(overrides: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Separate fixed overrides from the search space.

    ``key=interval(a,b)`` is continuous, or integer inside ``int(...)``; ``key=range(a,b,step)`` excludes b;
    ``key=choice(x,y)`` and ``key=x,y`` are categorical. ``tag(log,...)`` searches on a log scale.

    Returns:
        The fixed overrides as given, and the distribution of each searched key.

    Raises:
        InputError: a range is empty, or not valid on a log scale.
    """
    fixed, space = [], {}
    try:
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            if override.is_sweep_override():
                space[override.get_key_element()] = _distribution(override)
            else:
                fixed.append(override.input_line or "")
    except HydraException as e:
        raise InputError(f"cannot read the search space: {str(e).splitlines()[0]}") from e
    return fixed, space


def _distribution(override: Override) -> BaseDistribution:
    distributions = import_optuna().distributions
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            whole = isinstance(low, int) and isinstance(high, int)
            kind = distributions.IntDistribution if whole else distributions.FloatDistribution
            return kind(low, high, log="log" in value.tags)
        if isinstance(value, RangeSweep):
            log, values = "log" in value.tags, list(value.range())
            whole = all(isinstance(v, int) for v in values)
            kind = distributions.IntDistribution if whole else distributions.FloatDistribution
            step = None if log and not whole else value.step
            return kind(values[0], values[-1], log=log, step=step)
        if isinstance(value, Glob):
            return distributions.CategoricalDistribution(globbed(override.key_or_group, value))
        assert isinstance(value, ChoiceSweep) or override.is_choice_sweep()
        return distributions.CategoricalDistribution(list(override.sweep_iterator(transformer=Transformer.str)))
    except (ValueError, IndexError, TypeError) as e:
        raise InputError(f"{override.input_line}: {e}") from e
