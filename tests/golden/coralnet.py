"""Record PySpacer's own features for tests/test_extractors.py.

Run in an environment that has PySpacer: pip install pyspacer==0.14.0
    python tests/golden/coralnet.py > tests/golden/coralnet.json
Weights and pixels are made from NumPy's generator by name and seed, as the test makes them.
"""

import json

import numpy as np
import torch
from spacer.extractors.efficientnet import EfficientNetExtractor
from spacer.extractors.torch_extractors import transformation

EVERY = 16


def seeded(name, shape):
    """The test's own rule, written again."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    values = (
        np.random.default_rng(list(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
        * 0.1
    )
    if name.endswith("running_var"):
        values = np.abs(values) + 0.5
    return torch.from_numpy(np.asarray(values))


net = EfficientNetExtractor.untrained_model().eval()
net.load_state_dict({name: seeded(name, value.shape) for name, value in net.state_dict().items()})
chips = np.random.default_rng(7).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
with torch.no_grad():
    batch = torch.stack([transformation()(chip) for chip in chips])
    features = net.extract_features(batch).numpy()
print(json.dumps({"every": EVERY, "features": features[:, ::EVERY].tolist()}))
