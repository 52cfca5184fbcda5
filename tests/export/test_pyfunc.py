"""The loader that MLflow's `python_function` flavour names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oba.errors import ModelError
from oba.export.pyfunc import _load_pyfunc
from oba.models import build_model
from oba.models.stored import ModelCard, save_pruned

CARD = ModelCard("resnet8", 3, (1, 8, 8), ("a", "b", "c"), (0.5,), (0.25,))


@pytest.fixture
def loaded(tmp_path):
    torch.manual_seed(0)
    save_pruned(tmp_path, build_model(CARD.name, num_classes=3, input_size=(1, 8, 8)), CARD)
    return _load_pyfunc(str(tmp_path))


def test_images_are_normalised_inside(loaded):
    images = torch.rand(2, 1, 8, 8)
    expected = loaded.get_raw_model()((images - 0.5) / 0.25).detach()
    for given in (images.numpy(), images.double().numpy(), images.tolist()):
        found = loaded.predict(given)
        assert (found.shape, found.dtype) == ((2, 3), np.float32)
        torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-4, atol=1e-5)
    assert not loaded.get_raw_model().training


def test_images_of_another_shape_are_refused(loaded):
    for shape in ((2, 8, 8), (1, 3, 8, 8), (1, 1, 8, 9)):
        with pytest.raises(ModelError, match=r"allowed: \(N, 1, 8, 8\), values in \[0, 1\]"):
            loaded.predict(np.zeros(shape))
