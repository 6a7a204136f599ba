"""Their names → our names: separators, wrappers around a network, and the user's own rules."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from regraft.errors import PatternError
from regraft.formats.roles import EMA_ROOTS
from regraft.foundation.patterns import compile_pattern
from regraft.foundation.wording import near_names

Renames = Mapping[str, str | Sequence[str]]  # pattern of a source name → our name, or the names of all that take it

# Names that trainers and savers put around a whole network: they say nothing of the network itself.
WRAPPERS = (
    "module", "_orig_mod", "model", "state_dict", "model_state_dict", "net", "network", "params", "batch_stats",
    "variables", "target", "optimizer.target", "state", "_model", "best_model", "best_state_dict",
    "best_model_state_dict", "model_best", "best_params", "best_weights", *EMA_ROOTS,
)  # fmt: skip

# Names that a compiled, sharded or checkpointed part of a network gets, anywhere in it: no user writes them.
_INSIDE = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")

_SEPARATOR = re.compile(r"[/\\]+")
# TensorFlow's moving averages and object checkpoints; Keras 2's ":0".
_TAIL = re.compile(r"(/ExponentialMovingAverage|/\.ATTRIBUTES/VARIABLE_VALUE|:\d+)$")
_HEAD = re.compile(r"^(arg|aux):")  # MXNet's kinds of arrays
# Keyword arguments of NumPy's savez hold no slash: hidden1__kernel.
_JOINED = re.compile(
    r"[^./]+__(?:kernel|recurrent_kernel|weights?|W|w|bias(?:es)?|b|gamma|beta|scale|moving_\w+|embeddings?)"
)
# MXNet joins layer and leaf by an underscore: stage1_conv0_weight.
_UNDERSCORED = re.compile(
    r"^(.+)_(weight|bias|gamma|beta|moving_mean|moving_var|running_mean|running_var|[ih]2h_weight|[ih]2h_bias)$"
)


def dotted(name: str, layout: str | None = None) -> str:
    """A source name in our separators, without what a framework adds to every name.

    >>> dotted("hidden1/kernel:0"), dotted("hidden1__kernel"), dotted("arg:conv0_weight", "mxnet")
    ('hidden1.kernel', 'hidden1.kernel', 'conv0.weight')
    """
    plain = _SEPARATOR.sub(".", _HEAD.sub("", _TAIL.sub("", name))).strip(".")
    if _JOINED.fullmatch(plain):
        plain = plain.replace("__", ".")
    if layout == "mxnet" and "." not in plain:
        plain = _UNDERSCORED.sub(r"\1.\2", plain)
    return plain


def unwrapped(name: str) -> Iterable[str]:
    """The dotted name, then the name with one wrapper after the other taken off: off its front, then off its parts.

    >>> list(unwrapped("module.fc._orig_mod.weight"))
    ['module.fc._orig_mod.weight', 'fc._orig_mod.weight', 'fc.weight']
    """
    yield name
    stripping = True
    while stripping:
        stripping = False
        for wrapper in WRAPPERS:
            if name.startswith(wrapper + "."):
                name = name[len(wrapper) + 1 :]
                yield name
                stripping = True
                break
    plain = _INSIDE.sub("", name)
    if plain != name:
        yield plain


def taken_off(name: str, shorter: str) -> str:
    """What `unwrapped` left out of a name.

    >>> taken_off("module.fc._orig_mod.weight", "fc.weight")
    'module._orig_mod.'
    """
    if name.endswith(shorter):
        return name.removesuffix(shorter)
    return _INSIDE.sub("", name).removesuffix(shorter) + "".join(_INSIDE.findall(name))


@dataclass(frozen=True)
class Rule:
    """One rule of the user: what matches the whole source name becomes each replacement (\\1 is the first group)."""

    pattern: re.Pattern[str]
    replacements: tuple[str, ...]

    def apply(self, name: str) -> tuple[str, ...] | None:
        """The new names, or None when the rule does not match. Raises PatternError for a group that is not there."""
        match = self.pattern.fullmatch(name)
        return None if match is None else tuple(self._expanded(match, text) for text in self.replacements)

    def _expanded(self, match: re.Match[str], replacement: str) -> str:
        try:
            return match.expand(replacement)
        except (re.error, IndexError) as error:
            raise PatternError(
                f"The replacement {replacement!r} does not fit the pattern {self.pattern.pattern!r}: {error}.\n"
                "Write \\1 for what the first pair of round brackets matched."
            ) from error


def rename_all(names: Iterable[str], rename: Renames | None) -> dict[str, tuple[str, ...]]:
    """Source name → its names after the user's rules; for each name the first rule that matches it.

    rename   pattern (of the whole source name) → replacement, or several, theirs → ours

    Raises PatternError when a rule is used by no name; near names are listed.

    >>> rename_all(["dnn/hidden1/kernel", "step"], {r"dnn/(.*)": r"\\1"})
    {'dnn/hidden1/kernel': ('hidden1/kernel',), 'step': ('step',)}
    """
    known = list(names)
    rules = [Rule(compile_pattern(pattern), _replacements(pattern, new)) for pattern, new in (rename or {}).items()]
    renamed: dict[str, tuple[str, ...]] = {}
    idle = dict.fromkeys(rules)
    for name in known:
        matches = ((rule, new) for rule in rules if (new := rule.apply(name)) is not None)
        rule, renamed[name] = next(matches, (None, (name,)))
        if rule is not None:
            idle.pop(rule, None)
    if idle:
        raise PatternError(
            "\n".join([*(_idle_text(rule.pattern.pattern, known) for rule in idle), _WHOLE_SOURCE_NAMES])
        )
    return renamed


def _replacements(pattern: str, new: str | Sequence[str]) -> tuple[str, ...]:
    """One replacement or several. Raises PatternError for none, for the same twice, and for what is no text."""
    several = (new,) if isinstance(new, str) else tuple(new) if isinstance(new, list | tuple) else ()
    if not several or len({*several}) < len(several) or not all(isinstance(text, str) for text in several):
        raise PatternError(f"The rule {pattern!r} has no replacement, or one of them twice: {new!r}.")
    return several


_WHOLE_SOURCE_NAMES = (
    "A rule must match the whole source name as `regraft show` prints it; the first rule that matches wins.\n"
    "To give one array to several layers, write one rule with a list of names."
)


def _idle_text(pattern: str, names: Sequence[str]) -> str:
    return f"The rename rule {pattern!r} is used by no array of the checkpoint. {near_names(pattern, names)}"
