"""Guidelines as tables: which category a finding has, what to do about it, and where that is written.

Pure rules: no language model and no torch. `load` reads the tables (those that ship, and a site's own), `recommend`
puts a study before them.
"""

from __future__ import annotations

from ctscribe.impression.guidelines.engine import recommend
from ctscribe.impression.guidelines.tables import DEFAULT_SETS, RuleSet, load, shipped

__all__ = ["DEFAULT_SETS", "RuleSet", "load", "recommend", "shipped"]
