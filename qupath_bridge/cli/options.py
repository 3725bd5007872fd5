"""Flags of the options: one for each field of the models of :mod:`qupath_bridge.config`."""

from __future__ import annotations

import functools
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperOption
from typer.main import get_command_name

from qupath_bridge.errors import BridgeError, ConfigError, Fault, UsageError

if TYPE_CHECKING:
    from qupath_bridge.config import Option, Settings

__all__ = [
    "Command",
    "Given",
    "Json",
    "add_flags",
    "flag_of",
    "suggest_options",
    "takes_options",
    "words_of",
]

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]

PANELS = {"slides": "Which slides"}
"""Headings of ``--help`` that are not just the name of the group."""


class Given(NamedTuple):
    """The given options: a configuration file, ``--set``, and flags, by option name."""

    file: Path | None
    assigned: Mapping[str, Any]
    flags: Mapping[str, Any]

    def settings(self) -> Settings:
        """Return the settings of file, ``--set`` and flags; later ones win.

        Raises
        ------
        ConfigError
            For faults of the file.
        UsageError
            For faults of flags and ``--set``.
        """
        from qupath_bridge.config import Settings

        settings = Settings.load(self.file) if self.file else Settings.parse({})
        try:
            return settings.replace(**{**self.assigned, **self.flags})
        except ConfigError as error:
            raise self.explain(error) from None

    def explain(self, error: ConfigError) -> BridgeError:
        """Return an error that calls each option by the flag, ``--set`` or file that gave it."""
        places = [self._place(fault.place) for fault in error.faults]
        faults = [
            Fault(", ".join(place) or fault.place, fault.problem)
            for place, fault in zip(places, error.faults, strict=True)
        ]
        named = ConfigError(faults, hint=error.hint)
        # The file has no part in it where every fault is one of the command line.
        if all(place and place[0].startswith("--") for place in places):
            return UsageError(named.message, hint=named.hint)
        return named

    def _place(self, place: str) -> list[str]:
        from qupath_bridge.config import options

        if self.file and place.startswith(f"{self.file}: "):
            return []  # it says so already
        flags = {option.name: flag_of(option) for option in options()}
        names = [name.strip().split(".")[0] for name in place.split(",")]
        found = [flags[name] for name in names if name in self.flags]
        found += [
            f"--set {name}" for name in names if name in self.assigned and name not in self.flags
        ]
        if not found and self.file and flags.keys() & names:
            return [f"{self.file}: {place}"]
        return found


class Command(TyperCommand):
    """A command that refuses a flag with a value where it stands twice, if it takes one value.

    Only flags that are given are converted: to make sixty converters takes longer than a plan.
    """

    def __init__(self, *arguments: Any, **declared: Any) -> None:
        super().__init__(*arguments, **declared)
        for parameter in self.params:
            if isinstance(parameter, TyperOption) and parameter.default is None:
                parameter.process_value = _if_given(parameter)  # type: ignore[method-assign, assignment]

    def make_parser(self, ctx: Any) -> Any:
        """Return the parser of the command line; without this check the last value wins."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(args)
            for each in order:
                single = isinstance(each, TyperOption) and not (each.multiple or each.is_flag)
                if single and order.count(each) > 1:
                    raise UsageError(f"{each.opts[0]} is given twice.", hint="Give it once.")
            return values, rest, order

        parser.parse_args = parse_once
        return parser


def _if_given(option: TyperOption) -> Callable[[Any, Any], Any]:
    """Return how the parser converts the value of an option; what was not given stays None."""
    convert = option.process_value

    def process(ctx: Any, value: Any) -> Any:
        return None if value is None and not option.required else convert(ctx, value)

    return process


_commands: dict[str, Callable[[], None]] = {}
"""Functions that give a command its flags, by the command's name."""


def takes_options(
    *names: str, besides: Iterable[str] = (), file: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flags of some options as its argument ``given``.

    Parameters
    ----------
    names : str
        Names of the options; all when there are none.
    besides : iterable of str
        Options that it does not take.
    file : bool
        Whether it also takes ``--config`` and ``--set``, which may hold any option.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "given"]
        own_names = {parameter.name for parameter in own}

        @functools.wraps(command)
        def wrapper(**values: Any) -> Any:
            flags = {name: values.pop(name) for name in list(values) if name not in own_names}
            given = _read(flags)
            try:
                return command(**values, given=given)
            except ConfigError as error:
                raise given.explain(error) from error

        def declare(parameters: Iterable[inspect.Parameter]) -> None:
            # Only keywords: a flag without a default may then stand behind one with.
            all_of_them = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
            wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
                parameters=all_of_them
            )
            wrapper.__annotations__ = {p.name: p.annotation for p in all_of_them}

        def add() -> None:
            declare([*own, *_parameters(names, besides, file=file)])

        declare(own)
        _commands[get_command_name(command.__name__)] = add
        return wrapper

    return decorate


def add_flags(word: str | None = None) -> None:
    """Give a command its flags, or all commands when None.

    Making flags takes longer than showing help. So only the command that is called gets them.
    """
    for name, add in _commands.items():
        if word is None or name == word or name.startswith(f"{word}-"):
            add()


def suggest_options(error: Any) -> None:
    """Let the parser's error about an unknown flag name the flags that may have been meant.

    Parameters
    ----------
    error : click.ClickException
        Others than those about an unknown flag stay as they are.
    """
    name, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if name is None or context is None or not hasattr(error, "possibilities"):
        return
    from qupath_bridge.suggestions import similar_options

    flags = {
        flag.removeprefix("--").replace("-", "_"): flag
        for parameter in context.command.get_params(context)
        for flag in parameter.opts
        if flag.startswith("--")
    }
    error.possibilities = [flags[close] for close in similar_options(name, flags)]


def flag_of(option: Option) -> str:
    """Return the flag of an option; one that is on by default has a flag that turns it off."""
    name = option.name.replace("_", "-")
    return f"--no-{name}" if option.kind == "flag" and option.default is True else f"--{name}"


def with_flags(text: str) -> str:
    """Return a message with the flag of each option that it names, as the command line knows it.

    >>> with_flags("Name it with the option slide_map, or leave labels out with the option labels.")
    'Name it with --slide-map, or leave labels out with --no-labels.'
    """
    if "the option " not in text:
        return text
    from qupath_bridge.config import options

    flags = {option.name: flag_of(option) for option in options()}
    return re.sub(
        r"the option (\w+)", lambda found: flags.get(found[1], found[0]), text, flags=re.ASCII
    )


def words_of(settings: Settings) -> list[str]:
    """Return the words of a command line that give these settings."""
    from qupath_bridge.config import options

    words = []
    models = (settings.selection, settings.config, settings.options)
    for option in options():
        model = next(each for each in models if option.name in type(each).model_fields)
        value = model.as_json()[option.name]
        if getattr(model, option.name) == option.default:
            continue
        flag = flag_of(option)
        if option.kind == "flag":
            words.append(flag)
        elif isinstance(value, list | dict):
            words += _repeated(option, flag, value)
        else:
            words.append(f"{flag}={value}")
    return words


def _repeated(option: Option, flag: str, value: list[Any] | dict[str, Any]) -> list[str]:
    """Return the words of an option with several values."""
    if isinstance(value, dict):
        texts = [
            f"{key}={text}"
            for key, found in value.items()
            for text in (found if isinstance(found, list) else [found])
        ]
        unclear = any(text.count("=") > 1 for text in texts)
    else:
        texts = [",".join(map(str, t)) if isinstance(t, list) else str(t) for t in value]
        unclear = not option.repeated and any("," in text for text in texts)
    if unclear:  # flags are split at these signs
        return [f"--set={option.name}={_toml(value)}"]
    return [f"{flag}={text}" for text in (texts if option.repeated else [",".join(texts)])]


def _toml(value: Any) -> str:
    """Return lists, tables and texts as TOML, whose texts are escaped as those of JSON."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k)} = {_toml(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def _parameters(
    names: Iterable[str], besides: Iterable[str], *, file: bool
) -> Iterator[inspect.Parameter]:
    from qupath_bridge.config import options

    for option in options():
        if (option.name in names or not names) and option.name not in besides:
            yield _parameter(option)
    if file:
        yield _keyword(
            "config_file",
            Path | None,
            "--config",
            metavar="FILE",
            help="TOML file with any of these options.",
            rich_help_panel="Configuration",
        )
        yield _keyword(
            "assignments",
            list[str] | None,
            "--set",
            metavar="KEY=VALUE",
            help="Any option by its name; KEY= unsets it.",
            rich_help_panel="Configuration",
        )


def _parameter(option: Option) -> inspect.Parameter:
    default = _shown_default(option)
    text = option.description
    if text[0].isascii():  # µm has no capital letter
        text = text[0].upper() + text[1:]
    if flag_of(option).startswith("--no-"):
        text = f"Do not {option.description}."
    # Numbers stay text here: the model checks them, and says the same as in Python.
    kind: Any = {"flag": bool, "path": Path}.get(option.kind, str)
    return _keyword(
        option.name,
        (list[kind] if option.repeated else kind) | None,
        flag_of(option),
        help=text + (f" (default {default})" if default else ""),
        metavar=None if option.kind == "flag" else option.show,
        rich_help_panel=PANELS.get(option.group, option.group.capitalize()),
        autocompletion=_completion(option),
    )


def _keyword(name: str, annotation: Any, flag: str, **declared: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=typer.Option(None, flag, show_default=False, **declared),
        annotation=annotation,
    )


def _completion(option: Option) -> Callable[[str], list[str]] | None:
    """Return what a shell asks for the values of an option that has names as values."""
    if not option.choices and option.part is None:
        return None

    def complete(incomplete: str) -> list[str]:
        return [name for name in option.names() if name.startswith(incomplete)]

    return complete


def _shown_default(option: Option) -> str:
    default = option.default
    if option.kind == "flag" or default is None or default == () or default == {}:
        return ""
    if isinstance(default, tuple):
        flat = default[0] if isinstance(default[0], tuple) else default
        return ",".join(map(str, flat))
    return str(default)


def _read(values: dict[str, Any]) -> Given:
    """Sort what the parser found; a flag that was not given is None or an empty list."""
    file = values.pop("config_file", None)
    assigned = _assigned(values.pop("assignments", None) or ())
    given = {name: value for name, value in values.items() if value not in (None, [])}
    if any(value is True for value in given.values()):
        from qupath_bridge.config import options

        # A flag that turns something off: --no-labels means labels = false.
        off = {option.name for option in options() if flag_of(option).startswith("--no-")}
        given |= dict.fromkeys(off & given.keys(), False)
    return Given(file, assigned, given)


def _assigned(assignments: Iterable[str]) -> dict[str, Any]:
    """Read ``--set key=value``; a value that is not TOML is text, none unsets the option."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, sign, value = text.partition("=")
        key = key.strip()
        if not sign or not key:
            raise UsageError(f"--set: {text!r} is not of the form KEY=VALUE.")
        if key in values:
            raise UsageError(f"--set: {key} is given twice.", hint="Give it once.")
        try:
            values[key] = tomllib.loads(f"value = {value}")["value"]
        except ValueError:
            values[key] = value.strip() or None
        except RecursionError:
            raise UsageError(f"--set: the value of {key} is nested too deeply.") from None
    return values
