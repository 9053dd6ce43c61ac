"""What the construct raises."""

from collections.abc import Sequence


class SettingsError(ValueError):
    """Settings that cannot be deployed.

    Attributes
    ----------
    problems : tuple of str
        Every problem found, each beginning with the name of the setting and saying what to write instead.
        None of them repeats a given value.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "One setting needs" if len(self.problems) == 1 else f"{len(self.problems)} settings need"
        super().__init__("\n".join([f"{count} attention:", *(f"  - {problem}" for problem in self.problems)]))
