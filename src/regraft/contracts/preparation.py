"""How all inputs of a model are prepared, of whatever kinds: what `predict` needs to do as training did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regraft.contracts.numbers import NumberContract
from regraft.contracts.sound import SoundContract
from regraft.contracts.text import TextContract
from regraft.errors import DataError
from regraft.inputs import InputContract
from regraft.tensors.trees import Inputs

KINDS = ("image", "text", "sound", "numbers")


@dataclass(frozen=True)
class Preparation:
    """The contract of each kind of input that the model takes; None for kinds that it does not take.

    arguments  kind of input → argument of the model's `forward`; without it a single kind is the first argument, and
               several kinds are passed as `image`, `sound` and `numbers`. Texts are passed by the tokenizer's names
    """

    image: InputContract | None = None
    text: TextContract | None = None
    sound: SoundContract | None = None
    numbers: NumberContract | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of inputs that the model takes; () where nothing is known of them."""
        contracts = (self.image, self.text, self.sound, self.numbers)
        return tuple(kind for kind, contract in zip(KINDS, contracts, strict=True) if contract is not None)

    @property
    def several(self) -> bool:
        """Whether an example has inputs of several kinds."""
        return len(self.kinds) > 1

    def together(self, parts: Mapping[str, Inputs]) -> Inputs:
        """The model's inputs for an example, from those of each kind: a tensor, or argument → tensor."""
        if len(parts) == 1 and not self.arguments:
            return next(iter(parts.values()))
        named: dict[str, Any] = {}
        for kind, inputs in parts.items():
            own = inputs if isinstance(inputs, Mapping) else {self.arguments.get(kind, kind): inputs}
            twice = named.keys() & own.keys()
            if twice:
                raise DataError(f"Two inputs have the name {', '.join(sorted(twice))}. Name them in [model] inputs.")
            named |= own
        return named
