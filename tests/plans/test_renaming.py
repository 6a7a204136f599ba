"""Their names become ours: separators, wrappers, the user's rules."""

import pytest

from regraft.errors import PatternError
from regraft.plans.renaming import dotted, rename_all, unwrapped


@pytest.mark.parametrize(
    ("name", "layout", "expected"),
    [
        ("hidden1/kernel", "tensorflow", "hidden1.kernel"),
        ("dense/kernel:0", "tensorflow", "dense.kernel"),
        ("dense/kernel/.ATTRIBUTES/VARIABLE_VALUE", "tensorflow", "dense.kernel"),
        ("dense/kernel/ExponentialMovingAverage", "tensorflow", "dense.kernel"),
        ("arg:stage1_conv0_weight", "mxnet", "stage1_conv0.weight"),
        ("aux:bn0_moving_mean", "mxnet", "bn0.moving_mean"),
        ("features.0.weight", "mxnet", "features.0.weight"),
        ("stage1_weight", "torch", "stage1_weight"),
    ],
)
def test_what_a_framework_adds_to_every_name_is_taken_off(name, layout, expected):
    assert dotted(name, layout) == expected


def test_wrappers_come_off_one_after_the_other():
    assert list(unwrapped("module._orig_mod.fc.bias")) == ["module._orig_mod.fc.bias", "_orig_mod.fc.bias", "fc.bias"]


def test_a_layer_that_begins_like_a_wrapper_is_none():
    assert list(unwrapped("modules.fc.bias")) == ["modules.fc.bias"]


def test_the_first_rule_that_matches_wins():
    renamed = rename_all(["a/b", "a/c"], {"a/b": "x.b", "a/(.*)": r"y.\1"})

    assert renamed == {"a/b": ("x.b",), "a/c": ("y.c",)}


def test_a_rule_gives_one_array_to_several_layers():
    assert rename_all(["a.qkv.w"], {r"a\.qkv\.(.*)": [r"q.\1", r"v.\1"]}) == {"a.qkv.w": ("q.w", "v.w")}


@pytest.mark.parametrize("replacements", [[], ["x", "x"], 3, [None]])
def test_a_rule_without_replacements_or_with_one_twice_is_refused(replacements):
    with pytest.raises(PatternError, match="'a' has no replacement, or one of them twice"):
        rename_all(["a"], {"a": replacements})


def test_a_rule_must_match_the_whole_name():
    with pytest.raises(PatternError, match=r"(?s)'dense' is used by no array.*Did you mean 'dense/kernel'"):
        rename_all(["dense/kernel"], {"dense": "fc"})


def test_a_rule_behind_one_that_takes_all_is_idle():
    with pytest.raises(PatternError, match="'a/b' is used by no array"):
        rename_all(["a/b"], {"a/(.*)": r"\1", "a/b": "x"})


def test_a_replacement_with_a_group_that_is_not_there_is_refused():
    with pytest.raises(PatternError, match=r"(?s)does not fit the pattern 'a/\.\*'.*first pair of round brackets"):
        rename_all(["a/b"], {"a/.*": r"\1"})
