"""scikit-learn's habit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import lowbit as lb


def test_it_fits_and_predicts_images_with_classes_of_any_name(data: lb.Dataset) -> None:
    names = np.array(data.class_names)[data.train_labels]
    made = lb.Classifier(model="resnet8", bits=4, epochs=2, batch_size=16).fit(data.train_images, names)
    found = made.predict(data.test_images)
    assert set(found) <= set(data.class_names) and made.model_.bits == 4
    # No image was held out: there is no test accuracy to show.
    assert np.isnan(made.run_.test_accuracy) and made.run_.epochs[-1].train_accuracy > 0
    assert np.allclose(made.predict_proba(data.test_images).sum(axis=1), 1)
    assert made.get_params()["bits"] == 4 and made.set_params(bits=8).bits == 8
    assert (pickle.loads(pickle.dumps(made)).predict(data.test_images) == found).all()
    assert made.score(data.train_images, names) == pytest.approx((made.predict(data.train_images) == names).mean())


def test_it_learns_numbers_and_says_what_it_cannot(data: lb.Dataset) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 5))
    y = np.where(X[:, 0] + X[:, 1] > 0, "up", "down")
    made = lb.Classifier(model="mlp", epochs=30, lr=0.01).fit(X, y)
    assert made.score(X, y) > 0.9
    assert made.decision_function(X).shape == (200,)
    # A table's columns lie one after the other.
    columns = np.asfortranarray(X)
    assert lb.Classifier(model="mlp", epochs=30, lr=0.01).fit(columns, y).score(columns, y) == made.score(X, y)
    with pytest.raises(lb.DataError, match="takes images"):
        lb.Classifier().fit(X, y)
    with pytest.raises(lb.DataError, match="one class for each"):
        lb.Classifier().fit(data.train_images, y[:3])
    with pytest.raises(ValueError, match="not fitted"):
        lb.Classifier().predict(data.test_images)


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks_pass() -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    made = lb.Classifier(model="mlp", epochs=30, lr=0.01, batch_size=16, bits=8)
    results = checks.check_estimator(made, on_fail=None)
    failed = {each["check_name"]: str(each["exception"])[:300] for each in results if each["status"] == "failed"}
    assert len(results) > 40 and not failed, failed
