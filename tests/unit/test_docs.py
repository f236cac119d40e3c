"""README and docs say what is there: links, commands, options, make targets, settings, metrics and code."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.exceptions import TyperException

from fairlead.cli.main import app as fairlead_app
from fairlead.config import Config
from predictor_svc.__main__ import app as predictor_app
from predictor_svc.cli import app as predictor_tools
from scheduler_svc.__main__ import app as scheduler_app
from scheduler_svc.core.checks import read_choice
from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.policies.options import read_options
from scheduler_svc.policy_settings import configured
from simulator.policies import parse_choice, split_choices
from worker_svc.__main__ import app as worker_app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples/README.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
COMMANDS: dict[str, Any] = {
    "fairlead": typer.main.get_command(fairlead_app),
    "fairlead-scheduler": typer.main.get_command(scheduler_app),
    "fairlead-predictor": typer.main.get_command(predictor_app),
    "fairlead-worker": typer.main.get_command(worker_app),
}
PREDICTOR_TOOLS = typer.main.get_command(predictor_tools)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"^(scheduler|predictor|worker|defaults|security|log|telemetry)\.([a-z_.]+)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(text_of(name)) if language in languages]


def prose(name: str) -> str:
    return FENCE.sub("", text_of(name))


def inline(name: str) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(name))]


# -- links


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_inside_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for link in LINK.findall(prose(name)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name}: {link} does not exist"
        assert target.is_relative_to(ROOT), f"{name}: {link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{name}: {link}: no such heading in {target.name}"


def test_the_index_names_every_page() -> None:
    index = text_of("docs/README.md")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, f"docs/README.md does not name {page.name}"


# -- commands


def commands(code: str) -> Iterator[list[str]]:
    """Words of each command in a shell block; comments, variables before it and redirections left out."""
    for line in code.replace("\\\n", " ").splitlines():
        substituted = re.findall(r"\$\(([^()]*)\)", line)
        for each in (re.sub(r"\$\([^()]*\)", "X", line), *substituted):
            for piece in re.split(r"&&|\|\||;|(?<!-)\|", _without_comment(each)):
                words = shlex.split(re.sub(r"[<>]\S*", "", piece))
                while words and re.fullmatch(r"(export|[A-Z_]+=.*)", words[0]):
                    words = words[1:]
                if "exec" in words and words[:2] == ["docker", "compose"]:
                    words = words[words.index("scheduler") + 1 :] if "scheduler" in words else words
                if words:
                    yield words


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line)


def tool_of(word: str) -> str | None:
    name = word.removeprefix(".venv/bin/")
    return name if name in COMMANDS else None


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and what is left of them. Raises LookupError."""
    command, rest = COMMANDS[words[0]], words[1:]
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        found = PREDICTOR_TOOLS if rest[0] == "predictor" and words[0] == "fairlead" else command.commands.get(rest[0])
        if found is None:
            raise LookupError(f"no command {rest[0]!r}")
        command, rest = found, rest[1:]
    return command, rest


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_blocks_would_be_taken(name: str) -> None:
    """Each `fairlead ...` is parsed as the real command parses it: names, options, values, arguments."""
    for code in blocks(name, "sh", ""):
        for words in commands(code):
            tool = tool_of(words[0])
            if tool is None:
                continue
            try:
                command, rest = resolve([tool, *words[1:]])
                made_up = [index for index, word in enumerate(rest) if word == "..."]
                kept = [word for index, word in enumerate(rest) if index not in made_up and index + 1 not in made_up]
                if not (isinstance(command, TyperGroup) and not rest):
                    command.make_context(tool, kept, resilient_parsing=False)
            except typer.Exit:
                pass  # --help, --version
            except (TyperException, LookupError) as error:
                pytest.fail(f"{name}: {' '.join(words)}: {getattr(error, 'message', error)}")


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_options_in_sentences_exist(name: str) -> None:
    for code in inline(name):
        words = code.split()
        tool = tool_of(words[0])
        if tool is None:
            continue
        try:
            command, rest = resolve([tool, *words[1:]])
        except LookupError as error:
            pytest.fail(f"{name}: `{code}`: {error}")
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            option = word.partition("=")[0]
            assert not option.startswith("--") or option in {*known, "--help"}, f"{name}: `{code}`: no {option}"


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_and_modules_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    texts = [*(line for code in blocks(name, "sh", "") for line in code.splitlines()), *inline(name)]
    for line in texts:
        for target in re.findall(r"(?:^|&& |[A-Z_]+=\S+ )make ([a-z-]+)", _without_comment(line)):
            assert target in targets, f"{name}: make {target}"
        for module, options in re.findall(r"python -m ((?:bench|demo)[\w.]*)((?: [^`#]*)?)", line):
            found = importlib.util.find_spec(module)
            assert found is not None, f"{name}: python -m {module}"
            assert found.origin is not None
            folder = Path(found.origin)
            source = "".join(
                part.read_text(encoding="utf-8")
                for part in (folder.parent.glob("*.py") if folder.name == "__init__.py" else [folder])
            )
            for option in re.findall(r"--(?:no-)?([a-z-]+)", options):
                assert option in source or option.replace("-", "_") in source, f"{name}: {module} has no --{option}"


def operands(words: list[str], option: str) -> list[str]:
    return [value for word, value in pairwise(words) if word == option]


@pytest.mark.parametrize("name", NAMES)
def test_policies_options_and_choices_of_commands_exist(name: str) -> None:
    said = [words for code in blocks(name, "sh", "") for words in commands(code)] + [
        each.split() for each in inline(name)
    ]
    for words in said:
        if tool_of(words[0]) and words[1:3] == ["policy", "set"] and len(words) > 3 and words[3] in BUILT_IN:
            options = [pair.partition("=")[::2] for pair in operands(words, "--option")]
            read_options(words[3], BUILT_IN[words[3]].Options, options)
            for choice, value in (pair.partition("=")[::2] for pair in operands(words, "--choice")):
                read_choice(choice, value)
        elif tool_of(words[0]) and words[1:2] == ["simulate"]:
            for policies in operands(words, "--policy"):
                for policy in split_choices(policies):
                    if policy.partition("@")[0] in BUILT_IN:
                        assert parse_choice(policy).text == policy


# -- settings


def settings() -> dict[str, set[str]]:
    """Names of each section, those of inner sections with dots."""

    def names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
        for field, info in model.model_fields.items():
            yield prefix + field
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                yield from names(info.annotation, f"{prefix}{field}.")

    found: dict[str, set[str]] = {}
    for section, info in Config.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found[section] = set(names(info.annotation))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_yaml_examples_are_configurations(name: str) -> None:
    for code in blocks(name, "yaml"):
        data: Any = yaml.safe_load(code)
        if not isinstance(data, dict) or not set(data) & set(Config.model_fields):
            continue
        config = Config.model_validate(data)
        policies: dict[str, Any] = {**BUILT_IN}
        configured(config.scheduler, policies)


@pytest.mark.parametrize("name", NAMES)
def test_settings_named_in_text_exist(name: str) -> None:
    known = settings()
    for code in inline(name):
        for section, field in re.findall(
            r"^(scheduler|predictor|worker|defaults|security|log|telemetry)\.([a-z_.]+)", code
        ):
            whole = f"{section}.{field.rstrip('.')}"  # `security` has settings of its own for each service
            if not field.endswith(("proto", "yaml", "py", "internal")) and whole not in known["security"]:
                assert field.rstrip(".") in known[section], f"{name}: {section}.{field}"
    for section, field in re.findall(r"FAIRLEAD_([A-Z]+)__([A-Z_]*[A-Z])", text_of(name)):
        assert field.lower().replace("__", ".") in known[section.lower()], f"{name}: FAIRLEAD_{section}__{field}"


# -- metrics and code


def test_metrics_of_the_alarms_are_those_that_are_told() -> None:
    told = text_of("docs/telemetry.md")
    for name in set(re.findall(r"\b(?:fairlead|gen_ai)_[a-z0-9_]+", prose("docs/operations.md"))):
        base, _, last = name.rpartition("_")
        assert f"`{name}`" in told or (f"`{base}_" in told and f"`_{last}`" in told), f"docs/telemetry.md: no {name}"


@pytest.mark.parametrize("name", NAMES)
def test_python_blocks_are_python(name: str) -> None:
    for code in blocks(name, "python"):
        ast.parse(code, filename=name)


@pytest.mark.parametrize(
    ("page", "source"),
    [
        ("docs/writing-a-policy.md", "policy/express_lane.py"),
        ("docs/writing-a-predictor.md", "predictor/asked_length.py"),
    ],
)
def test_code_of_the_guides_is_that_of_the_examples(page: str, source: str) -> None:
    whole = text_of(f"examples/{source}")
    (code,) = blocks(page, "python")
    for part in code.strip().split("\n\n\n"):
        assert part in whole, f"{page}: not in examples/{source}:\n{part}"
