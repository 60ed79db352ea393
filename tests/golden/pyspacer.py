"""Record PySpacer's own features for tests/test_extractors_coralnet.py.

Run in an environment that has PySpacer (pip install pyspacer==0.14.*):
    python tests/golden/pyspacer.py > tests/golden/pyspacer.json
"""

import json
from importlib.metadata import version

import torch
from seeded_weights import pictures, seeded
from spacer.extractors.efficientnet import EfficientNetExtractor
from spacer.extractors.torch_extractors import transformation

EVERY = 40

network = EfficientNetExtractor.untrained_model().eval()
state = network.state_dict()
network.load_state_dict(
    {name: torch.from_numpy(seeded(name, value.shape)) for name, value in state.items()}
)
with torch.no_grad():
    batch = torch.stack([transformation()(chip) for chip in pictures()])
    features = network.extract_features(batch)
found = {
    "pyspacer": version("pyspacer"),
    "parameters": {name: list(value.shape) for name, value in sorted(state.items())},
    "every": EVERY,
    "mean": features.mean(1).tolist(),
    "deviation": features.std(1).tolist(),
    "features": features[:, ::EVERY].tolist(),
}
print(json.dumps(found))
