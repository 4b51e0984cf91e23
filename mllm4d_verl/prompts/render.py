"""Render a question row with a prompt template: a folder of Jinja files, one per turn.

A template is a folder with `user.jinja` and, if wanted, `system.jinja` (no system turn without it) and `response.jinja`
(the text SFT trains; without it the row's `response`, or else its answer letter). Templates see the columns of the row
and `lettered_options`, a list of ("A", text) pairs.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import os
import re
import signal
import threading
import traceback
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from mllm4d_verl.data_tools.control_tokens import REFUSE, guard_columns
from mllm4d_verl.data_tools.errors import InputError

if TYPE_CHECKING:
    from mllm4d_verl.data_tools.schema import QARow

TEMPLATES_DIR = Path(__file__).parent / "templates"
DATASET_TEMPLATE = "dataset"  # not a folder: the row brings its own messages in meta["messages"]

Message = dict[str, str]

# What verl's RLHFDataset splits a turn at; a question that holds one would ask for media the row does not have.
_ROLES = ("system", "user", "assistant", "tool")
_PLACEHOLDER = re.compile(r"<(?:video|image|audio)>")

# A prompt of a row has some thousand characters and takes under a millisecond. Both limits end a template that loops.
_RENDER_CHARACTERS = 4_000_000
_RENDER_SECONDS = 10.0


@dataclass(frozen=True)
class PromptTemplate:
    """The turns of one template; `system` and `response` may be absent."""

    name: str
    user: jinja2.Template
    system: jinja2.Template | None = None
    response: jinja2.Template | None = None


def list_templates() -> list[str]:
    """Names that `data.prompt_template` takes besides a path, sorted."""
    shipped = [folder.name for folder in TEMPLATES_DIR.iterdir() if (folder / "user.jinja").is_file()]
    return sorted([*shipped, DATASET_TEMPLATE])


@functools.lru_cache(maxsize=32)
def load_template(template: str) -> PromptTemplate:
    """Load a template by name, by the path of its folder, or by the path of a lone user-turn file.

    Args:
        template: one of `list_templates()` except `dataset`, or a path.

    Raises:
        InputError: no such template (with the nearest name), a folder without `user.jinja`, or a syntax error.
    """
    path = Path(os.path.expanduser(template))
    if (TEMPLATES_DIR / template / "user.jinja").is_file():
        path = TEMPLATES_DIR / template
    elif path.is_file():
        return PromptTemplate(template, user=_load_file(path))
    elif not path.is_dir():
        names = list_templates()
        near = difflib.get_close_matches(template.lower(), names, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"unknown prompt template {template!r}",
            field="data.prompt_template",
            remedy=f"{hint}Choose from {', '.join(names)}, or give the path of a folder with user.jinja",
        )
    if not (path / "user.jinja").is_file():
        raise InputError(
            "the template folder has no user.jinja",
            file=path,
            field="data.prompt_template",
            remedy="Write the user turn there; system.jinja and response.jinja are optional",
        )
    turns = {
        turn: _load_file(path / f"{turn}.jinja") if (path / f"{turn}.jinja").is_file() else None
        for turn in ("system", "response")
    }
    return PromptTemplate(template, user=_load_file(path / "user.jinja"), **turns)


def render_messages(
    row: QARow | Mapping[str, Any], template: str, special_tokens: str = REFUSE, vocabulary: Collection[str] = ()
) -> list[Message]:
    """Render the prompt of a row, `<video>` standing for its clip.

    Args:
        row: a QARow or a mapping with its columns.
        template: see `load_template`; `dataset` keeps the row's own messages, without the assistant turns at their end.
        special_tokens: what becomes of a control token in a text of the row: `refuse`, or `plain` text.
        vocabulary: special tokens of the tokenizer in use, beside those that are known by their form.

    Returns:
        Turns `{"role", "content"}`, the last one the user's.

    Raises:
        InputError: unknown template, a column the template needs is missing or null, media placeholders that do not
            match the one video of the row, or a control token in a text of it.
    """
    columns = guard_columns(_columns(row), special_tokens, vocabulary)
    if template == DATASET_TEMPLATE:
        messages = _own_messages(columns)
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
    else:
        loaded = load_template(template)
        context = _context(columns)
        messages = []
        if loaded.system is not None and (system := _render(loaded.system, context)):
            messages.append({"role": "system", "content": system})
        messages.append({"role": "user", "content": _render(loaded.user, context)})
    _check_prompt(messages, columns, template)
    return messages


def render_conversation(
    row: QARow | Mapping[str, Any], template: str, special_tokens: str = REFUSE, vocabulary: Collection[str] = ()
) -> list[Message]:
    """Render prompt and target: what SFT trains on. Every assistant turn in it is a target.

    Args: as of `render_messages`.

    Raises:
        InputError: as `render_messages`, or the row has no target for this template.
    """
    columns = guard_columns(_columns(row), special_tokens, vocabulary)
    if template == DATASET_TEMPLATE:
        messages = _own_messages(columns)
        if messages and messages[-1]["role"] == "assistant":
            _check_prompt(messages, columns, template)
            return messages
        response_template = None
    else:
        response_template = load_template(template).response
    if response_template is not None:
        response = _render(response_template, _context(columns))
    else:
        # An imported answer may be more than a letter; the release trains it as it was written.
        response = columns.get("response") or _meta(columns).get("raw_answer") or columns.get("answer")
    if not response:
        raise InputError(
            "the row has no text to train on", row=columns.get("id"), field="response", remedy="Fill the column"
        )
    prompt = render_messages(columns, template, special_tokens, vocabulary)
    conversation = [*prompt, {"role": "assistant", "content": response}]
    _check_prompt(conversation, columns, template)
    return conversation


def _load_file(path: Path) -> jinja2.Template:
    # A null column counts as missing: "None" in a prompt would be silent damage. A template is a text that people pass
    # on, so it may not reach Python's attributes, and its loops are bounded.
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(path.parent), undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    try:
        return environment.get_template(path.name)
    except UnicodeDecodeError as error:
        raise InputError("the template is not UTF-8", file=path, remedy="Save it as UTF-8") from error
    except jinja2.TemplateSyntaxError as error:
        raise InputError(
            f"the template does not parse: {error.message}", file=path, row=error.lineno, remedy="Correct that line"
        ) from error


def _render(template: jinja2.Template, context: Mapping[str, Any]) -> str:
    try:
        with _limited_time(template):
            return _bounded(template.generate(context), template).strip()
    except InputError:
        raise
    except (SecurityError, OverflowError) as error:
        raise InputError(
            f"the template {template.filename} does what a template may not: {error}",
            row=context.get("id"),
            field="data.prompt_template",
            remedy="Templates read the row's columns; they reach no Python attributes and loop up to 100,000 times",
        ) from error
    except jinja2.UndefinedError as error:
        missing = re.match(r"'(\w+)' is undefined", error.message or "")
        raise InputError(
            f"the template {template.filename} needs a column that the row lacks or leaves null ({error.message})",
            row=context.get("id"),
            field=missing.group(1) if missing else None,
            remedy="Fill the column, or choose another data.prompt_template (`direct` needs no response)",
        ) from error
    except Exception as error:  # whatever a template does wrong is its author's to mend
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == template.filename
        ]
        place = f" in line {lines[-1]}" if lines else ""
        raise InputError(
            f"the template {template.filename} fails{place}: {type(error).__name__}: {error}",
            row=context.get("id"),
            field="data.prompt_template",
            remedy="Correct it",
        ) from error


def _bounded(pieces: Iterator[str], template: jinja2.Template) -> str:
    """The rendered text; ends a template that writes more than a prompt can be."""
    text, size = [], 0
    for piece in pieces:
        text.append(piece)
        size += len(piece)
        if size > _RENDER_CHARACTERS:
            raise _endless(template, f"writes more than {_RENDER_CHARACTERS:,} characters")
    return "".join(text)


@contextlib.contextmanager
def _limited_time(template: jinja2.Template) -> Iterator[None]:
    """End a template that goes on for longer than one needs, also between two pieces of text.

    By an alarm, which Python delivers to the main thread only. In another thread, and where somebody else has set an
    alarm, only the size of the text is limited.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not hasattr(signal, "setitimer") or signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        yield
        return

    def ring(*_: Any) -> None:
        raise _endless(template, f"goes on for more than {_RENDER_SECONDS:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, _RENDER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _endless(template: jinja2.Template, what: str) -> InputError:
    return InputError(
        f"the template {template.filename} {what}", field="data.prompt_template", remedy="Look for a loop in it"
    )


def _columns(row: QARow | Mapping[str, Any]) -> dict[str, Any]:
    if is_dataclass(row) and not isinstance(row, type):
        row = {field.name: getattr(row, field.name) for field in fields(row)}
    return {**row, "meta": _meta(row)}


def _context(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that are not null, the question without a leading placeholder, and the lettered options."""
    context = {key: value for key, value in columns.items() if value is not None}
    if "question" in context:
        context["question"] = context["question"].removeprefix("<video>").strip()
    if "options" in context:
        context["lettered_options"] = list(zip(ascii_uppercase, context["options"], strict=False))
    return context


def _meta(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = columns.get("meta") or {}
    if isinstance(meta, str):
        try:
            meta = json.loads(meta)
        except json.JSONDecodeError as error:
            raise InputError(
                f"meta is not JSON: {error}", row=columns.get("id"), field="meta", remedy="Write a JSON object"
            ) from error
    return meta if isinstance(meta, Mapping) else {}


def _own_messages(columns: Mapping[str, Any]) -> list[Message]:
    messages = _meta(columns).get("messages")
    if not messages:
        raise InputError(
            "the row brings no messages of its own",
            row=columns.get("id"),
            field="meta",
            remedy="Put them into meta['messages'], or choose another data.prompt_template than `dataset`",
        )
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str) or "role" not in message:
            raise InputError(
                f"not a message with role and text content: {message!r:.200}", row=columns.get("id"), field="meta"
            )
        if message["role"] not in _ROLES:
            raise InputError(
                f"a message has the role {message['role']!r:.60}",
                row=columns.get("id"),
                field="meta",
                remedy=f"Roles are {', '.join(_ROLES)}",
            )
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _check_prompt(messages: list[Message], columns: Mapping[str, Any], template: str) -> None:
    if not any(message["role"] == "user" for message in messages):
        raise InputError("the prompt has no user turn", row=columns.get("id"), field=f"template {template}")
    placeholders = [found for message in messages for found in _PLACEHOLDER.findall(message["content"])]
    if placeholders != ["<video>"]:
        raise InputError(
            f"the prompt holds the media placeholders {placeholders or 'none'}, but a row has exactly one video",
            row=columns.get("id"),
            field="question" if template != DATASET_TEMPLATE else "meta",
            remedy="Keep one <video> in the user turn and none elsewhere",
        )
