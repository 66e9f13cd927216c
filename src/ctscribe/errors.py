"""Every exception that ctscribe raises on purpose.

```
CTScribeError
├── UsageError            wrong command line, option or configuration      exit code 2
│   └── ConfigError       an unknown key or a value of the wrong kind
├── InputRefused          the scan or file cannot be reported on           exit code 3
│   ├── UnreadableInput   not there, not CT data, truncated, cannot be decoded
│   ├── GeometryRefused   slices missing, mixed spacing, several scans in one series, ...
│   ├── WrongModality     not computed tomography in Hounsfield units
│   └── WrongBodyPart     computed tomography, but not of a chest
├── CheckpointError       a model folder is missing, truncated or does not fit the code
├── EndpointError         a language model did not give a usable answer
├── DependencyMissing     an optional extra or an outside tool is not installed
└── TrainingError         a run cannot start or go on (data, memory, disk)
```

A message has four parts: what was read, what was expected, what arrived, and what to do next.
Patient identifiers never appear in a message.
"""

from __future__ import annotations


class CTScribeError(Exception):
    """Root of the tree.

    Args:
        what: what is wrong, in the user's words (names the file, key or option).
        expected: what would have been right.
        got: what arrived instead.
        hint: what to do next.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.expected, self.got, self.hint = what, expected, got, hint
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected is not None:
            parts.append(f"  expected: {self.expected}")
        if self.got is not None:
            parts.append(f"  got:      {self.got}")
        if self.hint is not None:
            parts.append(f"  try:      {self.hint}")
        return "\n".join(parts)


class UsageError(CTScribeError):
    """Wrong command line, option or configuration."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key is unknown or its value does not fit."""


class InputRefused(CTScribeError):
    """The input is not something a report may be written from.

    Args:
        code: short stable identifier such as ``missing_slices``, for machines.
    """

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        code: str = "refused",
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, hint=hint)
        self.code = code


class UnreadableInput(InputRefused):
    """Not there, not CT data, truncated, or it cannot be decoded."""


class GeometryRefused(InputRefused):
    """The slices do not make one regular volume."""


class WrongModality(InputRefused):
    """Not computed tomography in Hounsfield units."""


class WrongBodyPart(InputRefused):
    """Computed tomography, but not of a chest."""


class CheckpointError(CTScribeError):
    """A model folder is missing, truncated or does not fit the code."""


class EndpointError(CTScribeError):
    """A language model did not give a usable answer.

    Args:
        code: short stable identifier such as ``timeout``, for machines.
    """

    def __init__(
        self,
        what: str,
        *,
        code: str,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, hint=hint)
        self.code = code


class DependencyMissing(CTScribeError):
    """An optional extra or an outside tool is not installed."""


class TrainingError(CTScribeError):
    """A run cannot start or go on."""
