"""A suggested recipe as YAML, with its reasons as comments."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from .suggest import Setting, Suggestion

WIDTH = 110
INDENT = "  "


def to_yaml(suggestion: Suggestion, commands: tuple[str, ...] = ()) -> str:
    """The recipe's file. commands: that go on from here, for its head."""
    lines = [f"# {line}" for line in suggestion.head]
    lines += ["#", *(f"#   {command}" for command in commands)] if commands else []
    lines += ["", *_setting(suggestion.extends, "extends", "")]
    open_: list[str] = []
    for setting in suggestion.settings:
        *parents, last = setting.key.split(".")
        shared = 0
        while shared < min(len(open_), len(parents)) and open_[shared] == parents[shared]:
            shared += 1
        lines += [f"{INDENT * place}{parents[place]}:" for place in range(shared, len(parents))]
        open_ = parents
        lines += _setting(setting, last, INDENT * len(parents))
    return "\n".join(lines) + "\n"


def _setting(setting: Setting, key: str, indent: str) -> list[str]:
    comment = textwrap.wrap(setting.why, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return [*(f"{indent}# {line}" for line in comment), f"{indent}{key}: {_value(setting.value)}"]


def _value(value: Any) -> str:
    """On one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
