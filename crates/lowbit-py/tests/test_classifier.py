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


def test_numbers_and_images_are_not_taken_for_each_other(data: lb.Dataset) -> None:
    images, classes = data.train_images[:40, :8, :8], np.arange(40) % 2
    numbers = np.random.default_rng(1).normal(size=(40, 8))
    made = lb.Classifier(model="mlp", epochs=1).fit(images, classes)
    with pytest.raises(lb.DataError, match="fitted on images"):
        made.predict(numbers)
    made.fit(numbers, classes)
    with pytest.raises(lb.DataError, match="fitted on numbers"):
        made.predict(images)
    with pytest.raises(lb.DataError, match="8"):
        made.predict(numbers[:, :1])
    # Neither's traits stay; a list of images is images.
    made.fit(list(images), classes)
    assert not hasattr(made, "n_features_in_") and (made.predict(list(images)) == made.predict(images)).all()


def test_what_names_no_class_is_refused(data: lb.Dataset) -> None:
    images = data.train_images[:40, :8, :8]
    numbers = np.random.default_rng(1).normal(size=(40, 8))
    classes = np.arange(40) % 2
    nothing, mixed = classes.astype(object), classes.astype(object)
    nothing[3], mixed[3] = None, "three"
    for X in (images, numbers):
        for y in [classes + 0.25, np.where(classes, np.nan, 0.0), nothing, mixed, classes * 1j]:
            with pytest.raises(lb.DataError) as error:
                lb.Classifier(model="mlp", epochs=1).fit(X, y)
            assert "\n" not in str(error.value)
    with pytest.raises(lb.SettingError, match="seed=-1"):
        lb.Classifier(model="mlp", epochs=1, seed=-1).fit(images, classes)
    # Whole numbers of any type are classes.
    assert set(lb.Classifier(model="mlp", epochs=1).fit(images, classes.astype(float)).classes_) == {0.0, 1.0}
