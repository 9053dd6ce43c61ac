"""The names of settings: flat, as this repository's app takes them from context; in groups, as the construct does."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .groups import (
    Archive,
    CacheOptions,
    CloudTrailLake,
    CloudWatchLogs,
    FunctionOptions,
    KongOptions,
    NetworkOptions,
    RunOptions,
)
from .kinds import Group

GROUPS: tuple[type[Group], ...] = (
    KongOptions,
    RunOptions,
    CacheOptions,
    FunctionOptions,
    NetworkOptions,
    CloudTrailLake,
    Archive,
    CloudWatchLogs,
)
"""The groups that hold settings of the app."""

PLACES: Mapping[str, str] = {
    "destination": "destinations",
    **{setting: f"{group.place}.{name}" for group in GROUPS for name, setting in group.settings.items()},
}
"""Where the construct has a setting."""

_UNMISTAKABLE = re.compile(rf"\b({'|'.join(name for name in sorted(PLACES, key=len, reverse=True) if '_' in name)})\b")
"""Settings whose names are no English words."""


DEFAULT_STREAM = "requests"
"""The stream whose trails are named by their destinations alone: they were there before there was another one."""


@dataclass(frozen=True, order=True)
class TrailName:
    """What tells the trails of a gateway apart. ``str`` returns ``requests/archive``.

    Attributes
    ----------
    stream : str
        What is read: ``requests`` or ``objects``.
    destination : str
        Where it is kept: ``archive``, ``cloudtrail-lake`` or ``cloudwatch-logs``.
    """

    stream: str
    destination: str

    def __str__(self) -> str:
        return f"{self.stream}/{self.destination}"

    def joined(self, separator: str) -> str:
        """Return the name as part of others, without the default stream, so that a further one renames nothing."""
        parts = (self.destination,) if self.stream == DEFAULT_STREAM else (self.stream, self.destination)
        return separator.join(parts)


def trails_of(streams: Sequence[str], destinations: Sequence[str]) -> tuple[TrailName, ...]:
    """Return the trails: each stream in each destination."""
    return tuple(TrailName(stream, destination) for stream in streams for destination in destinations)


def properties_of(group: type[Group], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a group that are given, out of settings by their flat names."""
    found = {name: settings.get(setting) for name, setting in group.settings.items()}
    return {name: value for name, value in found.items() if value is not None and value != ""}


def settings_of(*groups: Group) -> dict[str, object]:
    """Return the settings in groups, by their flat names."""
    return {setting: getattr(group, name) for group in groups for name, setting in group.settings.items()}


def for_the_construct(sentence: str) -> str:
    """Write a problem or a note about a setting as one about the construct's property."""
    place, colon, text = sentence.partition(":")
    setting, space, detail = place.partition(" ")
    return f"{PLACES.get(setting, setting)}{space}{detail}{colon}{_UNMISTAKABLE.sub(_place, text)}"


def _place(setting: re.Match[str]) -> str:
    return PLACES[setting[1]]
