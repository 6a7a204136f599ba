"""What the programs of both modes have in common."""

import torch
from torch import nn

from regraft.cuts.modes import ancestors_of_leaves, layers_of_trunk, operations_of_trunk, whole_cut
from regraft.freezing import freeze
from regraft.splitting import split


class OneWayToTrain(nn.Module):
    """A frozen layer more in evaluation than in training."""

    def __init__(self):
        super().__init__()
        self.both, self.evaluated, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.both(x).tanh()
        return self.last(x if self.training else self.evaluated(x))


def test_the_cut_has_the_leaves_of_both_modes_and_the_trunk_their_layers():
    """A head that was trained on the features is evaluated on them too."""
    model = OneWayToTrain()
    freeze(model, ["both", "evaluated"])
    modes = split(model, torch.randn(3, 4))[0].modes
    assert [leaf.name for leaf in whole_cut(model, modes).leaves] == ["tanh", "evaluated"]
    assert layers_of_trunk(modes) == {"", "both", "evaluated"}
    assert [operation.name for operation in operations_of_trunk(modes[False].trunk)] == ["linear", "tanh", "linear"]
    kinds = [modes[True].trunk.record.values[index].kind for index in ancestors_of_leaves(modes[True].trunk).values]
    assert sorted(kinds) == ["input", "parameter", "parameter", "result", "result"]
