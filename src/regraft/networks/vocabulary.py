"""All operators that a network can have, and the refusal of a network that has others."""

from collections.abc import Mapping

from regraft.errors import BuildError
from regraft.networks.network import Network, every_node
from regraft.networks.operators import Operator
from regraft.networks.operators_indexing import INDEXING
from regraft.networks.operators_layers import LAYERS
from regraft.networks.operators_sizes import with_sizes
from regraft.networks.operators_steps import STEPS

OPERATORS: Mapping[str, Operator] = with_sizes({**LAYERS, **STEPS, **INDEXING})
RENAMING = ("permute", "channels_last")  # steps that only give the axes of the file another order


def refuse_unknown(network: Network) -> None:
    """Raise BuildError with every node that has no translation, and the count of those that have one."""
    known = {*OPERATORS, *RENAMING, "if"}
    unknown = [node for node in every_node(network.nodes) if node.operator not in known]
    problems = [*map(str, network.untranslated), *(f"{node.operator} {node.outputs[0]}" for node in unknown)]
    if problems:
        count = sum(1 for _ in every_node(network.nodes)) - len(unknown)
        head = f"{len(problems)} of {count + len(problems)} nodes of the network have no translation:"
        raise BuildError("\n".join([head, *(f"  {problem}" for problem in problems)]))
