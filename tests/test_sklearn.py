"""scikit-learn estimators on cached features."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch import nn
from torch.nn import functional as F

from regraft import Exact, Steps
from regraft.errors import DataError
from regraft.sklearn import FeatureExtractor, ReuseClassifier, ReuseRegressor


class Padded(nn.Module):
    """A network for inputs of any width, as scikit-learn's checks have them."""

    def __init__(self, outputs):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body, self.head = nn.Linear(32, 64), nn.Linear(64, outputs)

    def forward(self, inputs):
        return self.head(torch.tanh(self.body(F.pad(inputs, (0, 32 - inputs.shape[1])))))


class Small(nn.Module):
    """A network for images (3, 8, 8)."""

    def __init__(self, outputs=3):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, outputs)

    def forward(self, images):
        return self.fc(self.conv(images).relu().mean((2, 3)))


STEPS = Steps(epochs=40, lr=1e-2)
ESTIMATORS = {
    "classifier": (ReuseClassifier(Padded, trainable="head", solver=STEPS), {}),
    "regressor": (
        ReuseRegressor(Padded, trainable="head", solver=STEPS),
        {"check_methods_subset_invariance": "float32 rounds a row by the size of its batch"},
    ),
    "extractor": (
        FeatureExtractor(Padded(2), "body"),
        {
            "check_methods_subset_invariance": "float32 rounds a row by the size of its batch",
            "check_estimators_overwrite_params": "joblib's hash of a torch module is another one for its deep copy",
        },
    ),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_scikit_learns_own_checks_pass(kind):
    """All that apply: 52 for the classifier. An expected failure carries its reason."""
    estimator, expected = ESTIMATORS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, expected_failed_checks=expected, on_skip=None)
    assert len(results) > 40
    assert [result["check_name"] for result in results if result["status"] not in ("passed", "skipped", "xfail")] == []


@pytest.fixture
def images():
    """Three classes with text labels, which the mean of a channel tells apart."""
    labels = np.arange(60) % 3
    values = np.random.default_rng(0).normal(size=(60, 3, 8, 8)).astype(np.float32)
    values[np.arange(60), labels] += 2
    return values, np.array(["cat", "dog", "eel"])[labels]


def test_the_classifier_learns_and_answers_in_the_labels_own_words(images):
    """Its model is a copy: the one that was passed stays as it is."""
    x, y = images
    model = Small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fitted = ReuseClassifier(model, trainable="fc").fit(x, y)
    assert fitted.score(x, y) > 0.9
    assert set(fitted.predict(x)) <= {"cat", "dog", "eel"}
    assert np.allclose(fitted.predict_proba(x).sum(1), 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(fitted.model_.conv.weight, model.conv.weight)
    assert any("Exact" in note for note in fitted.history_.notes)


def test_folds_and_candidates_share_the_features(images, tmp_path, monkeypatch):
    """Each of 60 images passes the frozen layers once, in 3 folds × 3 candidates and the final fit."""
    from regraft.caches.features import Features

    computed = []
    original = Features.__init__

    def counting(self, values):
        original(self, values)
        computed.append(self.computed)

    monkeypatch.setattr(Features, "__init__", counting)
    x, y = images
    solvers = [Exact(weight_decay=decay) for decay in (1e-3, 1e-2, 1.0)]
    search = GridSearchCV(ReuseClassifier(Small(), trainable="fc", store=tmp_path), {"solver": solvers}, cv=3)
    search.fit(x, y)
    assert search.best_score_ > 0.8
    assert sum(computed) == 60
    assert search.predict(x).shape == (60,)
    assert sum(computed) == 60


def test_cached_and_uncached_searches_choose_alike(images, tmp_path):
    """The store changes no accuracy."""
    x, y = images
    torch.manual_seed(0)
    model = Small()
    scores = [
        cross_val_score(ReuseClassifier(model, trainable="fc", store=store), x, y, cv=3) for store in (None, tmp_path)
    ]
    assert np.array_equal(*scores)


def test_a_fitted_estimator_is_pickled_and_cloned(images):
    """Without the halves of its model, which are made again when they are needed; a clone is not fitted."""
    x, y = images
    fitted = ReuseClassifier(Small(), trainable="fc", solver=Exact(weight_decay=0.1)).fit(x, y)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(x), fitted.predict_proba(x))
    assert not hasattr(clone(fitted), "model_")


def test_numbers_are_predicted_in_the_form_of_y(images):
    """One value each, or several."""
    x, _ = images
    target = x.mean((2, 3))
    one = ReuseRegressor(Small, trainable="fc", solver=Steps(epochs=60, lr=1e-2)).fit(x, target[:, 0])
    assert one.predict(x).shape == (60,)
    several = ReuseRegressor(Small, trainable="fc", solver=Steps(epochs=60, lr=1e-2)).fit(x, target)
    assert several.predict(x).shape == (60, 3)
    assert several.score(x, target) > 0.5


def test_features_of_a_layer_feed_any_estimator(images, tmp_path):
    """As the first step of a pipeline; averaged over height and width they are the means of the maps."""
    x, y = images
    model = Small()
    extractor = FeatureExtractor(model, "conv", pool="mean", store=tmp_path).fit(x)
    means = extractor.transform(x)
    expected = model.conv(torch.from_numpy(x)).mean((2, 3)).detach().numpy()
    assert np.allclose(means, expected, atol=1e-6)  # another order of sums
    assert extractor.get_feature_names_out()[0] == "featureextractor0"
    pipeline = make_pipeline(FeatureExtractor(model, "conv", pool="mean"), LogisticRegression())
    assert pipeline.fit(x, y).score(x, y) > 0.9
    assert FeatureExtractor(model, "conv").fit_transform(x).shape == (60, 8 * 6 * 6)


def test_a_model_without_frozen_layers_is_trained_as_a_whole(images):
    """Nothing is cached then."""
    x, y = images
    fitted = ReuseClassifier(Small(), solver=Steps(epochs=5)).fit(x, y)
    assert not torch.equal(fitted.model_.conv.weight, fitted.model.conv.weight)


def test_outputs_that_are_not_the_classes_are_refused(images):
    """A model of another number of outputs, and a single class."""
    x, y = images
    with pytest.raises(DataError, match=r"outputs of shape \(5,\) for 3 classes"):
        ReuseClassifier(Small(5), trainable="fc").fit(x, y).predict(x)
    with pytest.raises(ValueError, match="y has 1 class: cat"):
        ReuseClassifier(Small(), trainable="fc").fit(x[::3], y[::3])
