"""Help in groups, without rich: importing rich takes longer than all other imports."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["GroupedCommand", "WholeSentences"]

_ARGUMENTS = "Arguments"

_FIRST = "Most used"
"""Heading of the options that people use first."""

_FIRST_OPTIONS = (
    *("vary", "content", "style", "output", "out_dir", "size", "preset", "strength", "color"),
    *("style_scale", "protect", "region", "add_style", "original_size", "frames", "dry_run"),
    *("resume", "force"),
)
"""Names of the options under this heading in their order, in any command that has them."""


class GroupedCommand(TyperCommand):
    """Command whose ``--help`` lists the parameters of each ``rich_help_panel`` together.

    Arguments come first, then the options that people use first, then all others.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {_ARGUMENTS: [], _FIRST: []}
        for parameter in sorted(self.get_params(ctx), key=_place):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                if _place(parameter) < len(_FIRST_OPTIONS):
                    panel = _FIRST
                groups.setdefault(panel, []).append(record)
        last = groups.pop("Options", None)
        if last:
            groups["Options"] = last
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self.epilog, formatter)


def _place(parameter: Any) -> int:
    """Place among the first options; the number of these for all other parameters."""
    first = parameter.param_type_name == "option" and parameter.name in _FIRST_OPTIONS
    return _FIRST_OPTIONS.index(parameter.name) if first else len(_FIRST_OPTIONS)


class WholeSentences(TyperGroup):
    """Group whose ``--help`` shows each command's whole sentence, and examples."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.help or "") for name, command in commands if command is not None]
            )

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self.epilog, formatter)


def _write_examples(examples: str | None, formatter: Any) -> None:
    if examples:
        formatter.write_paragraph()
        formatter.write("Examples:\n")
        for line in examples.strip().splitlines():
            formatter.write(f"  {line.strip()}\n")
