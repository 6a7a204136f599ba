"""Repeated blocks in the lines of a network."""

from regraft.networks.blocks import NAME, find_blocks, named, recipe_of
from regraft.networks.source import ModuleSource, Statement


def source(*layers):
    """Three lines for each block of layers, one step behind the last."""
    made = ModuleSource(outputs=["x"])
    for name, width in layers:
        made.constructors |= {f"{name}_a": f"nn.Linear(4, {width})", f"{name}_b": f"nn.Linear({width}, 4)"}
        for target, layer in (("y", f"{name}_a"), ("y", f"{name}_b")):
            given = "x" if layer.endswith("_a") else "y"
            made.statements.append(Statement((target,), f"self.{layer}({given})", layer=layer))
        made.statements.append(Statement(("x",), "x + y"))
    made.statements.append(Statement(("x",), "x.mean(1)"))
    return made


def test_blocks_of_the_same_lines_are_one_kind():
    """What stands behind the last block is not part of it."""
    (kind,) = find_blocks(source(("block_1", 8), ("block_2", 16), ("block_3", 8)))

    assert [(block.name, block.start, block.stop) for block in kind.blocks] == [
        ("block_1", 0, 3), ("block_2", 3, 6), ("block_3", 6, 9),
    ]  # fmt: skip
    assert kind.lines == (f"y = self.{NAME}_a(x)", f"y = self.{NAME}_b(y)", "x = x + y")
    assert (kind.inputs, kind.outputs) == (("x",), ("x",))


def test_what_differs_between_blocks_is_a_parameter():
    """Equal sizes are one; arguments that torch has by default need not be written."""
    made = source(("block_1", 8), ("block_2", 16))
    made.constructors["block_2_b"] = "nn.Linear(16, 4, bias=False)"

    recipe = recipe_of(find_blocks(made)[0], made)

    assert recipe.calls == {f"{NAME}_a": "nn.Linear(4, width)", f"{NAME}_b": "nn.Linear(width, 4, bias=bias)"}
    assert recipe.values == {"block_1": ("8", "True"), "block_2": ("16", "False")}


def test_blocks_of_other_layers_are_no_kind():
    """The lines are the same, the classes are not."""
    made = source(("block_1", 8), ("block_2", 8))
    made.constructors["block_2_b"] = "nn.Bilinear(8, 4)"

    assert find_blocks(made) == []


def test_only_whole_parts_of_a_name_are_the_block_s():
    """block_1 is not in block_10."""
    assert named("self.block_1_a(x)", "block_1") == f"self.{NAME}_a(x)"
    assert named("self.block_10_a(x)", "block_1") == "self.block_10_a(x)"
    assert named("self.conv_dw_2_bn(x)", "_2") == f"self.conv_dw{NAME}_bn(x)"
