"""The names of settings: flat, as this repository's app takes them from context; in groups, as the construct does."""

import re
from collections.abc import Mapping
from typing import Any

from .groups import Archive, CacheOptions, CloudTrailLake, FunctionOptions, KongOptions, NetworkOptions, RunOptions
from .kinds import Group

GROUPS: tuple[type[Group], ...] = (
    KongOptions,
    RunOptions,
    CacheOptions,
    FunctionOptions,
    NetworkOptions,
    CloudTrailLake,
    Archive,
)
"""The groups that hold settings of the app."""

PLACES: Mapping[str, str] = {
    "destination": "destinations",
    **{setting: f"{group.place}.{name}" for group in GROUPS for name, setting in group.settings.items()},
}
"""Where the construct has a setting."""

_UNMISTAKABLE = re.compile(rf"\b({'|'.join(name for name in sorted(PLACES, key=len, reverse=True) if '_' in name)})\b")
"""Settings whose names are no English words."""


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
