"""Writes the tables of docs/configuration.md from the typed settings and the policies' options.

What stands outside its marks is written by hand. `--check` writes nothing and says whether the page is current.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic import AwareDatetime, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from fairlead.config import Config
from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.policies.options import as_text, describe

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "configuration.md"
MARKS = "<!-- {name}: made by tools/make_config_docs.py -->\n", "<!-- end of {name} -->"
UNITS = {
    "ms": "ms", "s": "s", "tokens": "tokens", "budget": "tokens", "bytes": "bytes", "chars": "characters",
    "blocks": "blocks", "seats": "sequences", "slots": "sequences", "share": "share", "ratio": "share",
    "utilization": "share", "factor": "multiple",
    "requests": "requests", "tenant": "requests", "kept": "requests", "held": "requests",
    "ahead": "requests", "batch": "questions", "queued": "questions", "threads": "threads", "cpus": "CPU numbers",
    "size": "GPUs", "labels": "tenants", "mb": "MB", "days": "days", "events": "moments", "finished": "requests",
    "connections": "connections", "calls": "calls",
}  # fmt: skip
"""What the last word of a setting's name says of its unit."""
UNITS_OF = {
    "max_lines": "lines", "lines_in_flight": "lines", "lines_in_flight_per_tenant": "lines",
    "max_jobs_per_tenant": "jobs", "jobs_at_once_per_tenant": "jobs", "max_attempts": "runs",
}  # fmt: skip
"""Of settings whose last word says another, or none."""
BOUNDS = ((annotated_types.Ge, "at least"), (annotated_types.Gt, "above"), (annotated_types.Le, "at most"),
          (annotated_types.Lt, "below"))  # fmt: skip
WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", SecretStr: "text, kept secret",
         AwareDatetime: "time with its zone"}  # fmt: skip


def page(text: str) -> str:
    """The page with what lies between its marks made anew."""
    for name, made in (("settings", settings()), ("policy options", policy_options())):
        begin, end = (mark.format(name=name) for mark in MARKS)
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{PAGE.relative_to(ROOT)}: the marks of `{name}` are gone: {begin.strip()} ... {end}")
        text = f"{before}{begin}\n{made}\n\n{end}{after}"
    return text


def settings() -> str:
    """A section for each section of the configuration, in its order."""
    return "\n\n".join(
        section(name, model) for name, info in Config.model_fields.items() for model in [_model_of(info.annotation)]
    )


def section(name: str, model: type[BaseModel]) -> str:
    """Heading, what it is, and one row a setting; sections inside it are rows with dots in their names."""
    listed = name == "tenants"
    described = docstrings(Config)[name].rstrip(".")
    lines = [f"## {name}", "", f"{inspect.getdoc(model)} {described}."]
    if listed:
        lines += ["", "A list of mappings; in the environment as JSON, in `FAIRLEAD_TENANTS`."]
    lines += ["", "| setting | takes | unit | default | meaning |", "|---|---|---|---|---|"]
    lines += [row(path, info, text, environment=not listed) for path, info, text in fields(name, model)]
    return "\n".join(lines)


def fields(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, str]]:
    """(dotted name, field, meaning) of each setting, inner sections flattened."""
    described = docstrings(model)
    for name, info in model.model_fields.items():
        path = f"{prefix}.{name}"
        inner = _model_of(info.annotation)
        if inner is not None:
            yield from fields(path, inner)
            continue
        if name not in described:
            raise SystemExit(f"fairlead/config: {path} has no description; write a docstring under the field")
        yield path, info, described[name]


def row(path: str, info: FieldInfo, text: str, *, environment: bool) -> str:
    """One line of a table."""
    name = f"`{path.split('.', 1)[1]}`"
    if environment:
        name += f"<br>`FAIRLEAD_{path.replace('.', '__').upper()}`"
    default = "required" if info.is_required() else f"`{_shown(info.default if info.default_factory is None else {})}`"
    cells = (name, _takes(info.annotation, info.metadata), _unit(path), default, text)
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a class and of those that it is made from."""
    found: dict[str, str] = {}
    for base in reversed([each for each in model.__mro__ if issubclass(each, BaseModel) and each is not BaseModel]):
        found |= _own_docstrings(base)
    return found


def _own_docstrings(model: type[BaseModel]) -> dict[str, str]:
    (tree,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    found[field.target.id] = " ".join(text.split())
                case _:
                    pass
    return found


def policy_options() -> str:
    """One table: every option of every policy."""
    lines = ["| policy | option | takes | default | meaning |", "|---|---|---|---|---|"]
    for name, policy in sorted(BUILT_IN.items()):
        for index, each in enumerate(describe(policy.Options)):
            shown = f"[`{name}`](policies/{name}.md)" if index == 0 else ""
            cells = (shown, f"`{each.name}`", each.allowed, f"`{as_text(each.default)}`", each.text)
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    without = ", ".join(f"`{name}`" for name, policy in sorted(BUILT_IN.items()) if not describe(policy.Options))
    return "\n".join([*lines, "", f"Without options of their own: {without}."])


def _takes(annotation: Any, metadata: list[Any]) -> str:
    """What a value may be, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        extra = [each for one in arguments[1:] for each in getattr(one, "metadata", [one])]
        return _takes(arguments[0], [*metadata, *extra])
    if origin in (typing.Union, types.UnionType):
        kinds = [_takes(each, metadata) for each in arguments if each is not type(None)]
        return " or ".join(kinds) + (" or null" if type(None) in arguments else "")
    if origin is Literal:
        return "one of " + ", ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        many = len(arguments) == 2 and arguments[1] is ...
        return f"list of {_takes(arguments[0], [])}" if many else f"list of {len(arguments)} numbers"
    if origin is dict:
        return "mapping of policy to its options"
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return "path"
    return WORDS[annotation] + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    """`, above 0 and at most 1`, or nothing."""
    said: list[str] = []
    for each in metadata:
        for kind, word in BOUNDS:
            if isinstance(each, kind):
                said.append(f"{word} {getattr(each, kind.__name__.lower()):,}")
        if pattern := getattr(each, "pattern", None):
            said.append(f"matching `{pattern}`")
    return f", {' and '.join(said)}" if said else ""


def _unit(path: str) -> str:
    name = path.rpartition(".")[2]
    return UNITS_OF.get(name) or UNITS.get(name.rpartition("_")[2], "")


def _shown(value: Any) -> str:
    """A default as YAML would have it."""
    match value:
        case None | bool() | float() | int():
            return json.dumps(value)
        case tuple():
            return "[" + ", ".join(_shown(each) for each in value) + "]"
        case dict():
            return "{}"
        case _:
            return str(value)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _model_of(annotation: Any) -> Any:
    """The section that a field holds (or a list of sections), or None."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def main() -> int:
    """Returns 0 where the page is current (or was written), 1 where `--check` finds it stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale or missing")
    check = parser.parse_args().check
    written = PAGE.read_text(encoding="utf-8")
    fresh = page(written)
    if not check:
        PAGE.write_text(fresh, encoding="utf-8")
        return 0
    if written != fresh:
        print("docs/configuration.md is not what fairlead/config says; run `make config-docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
