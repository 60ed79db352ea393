"""Write the trained classifier as ONNX (.onnx) or as a scikit-learn pickle for PySpacer (.pkl).

Loading a pickle runs the code in it: give it to people who trust you.
"""

import argparse
from pathlib import Path

from pipeline.commands import model_export
from pipeline.commands.target import write
from pipeline.train import model
from stages import command


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.model_export", description=__doc__)
    parser.add_argument("target", metavar="TARGET.onnx | TARGET.pkl")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("models/classifier"),
        help="where the classifier is (models/classifier)",
    )
    asked = parser.parse_args()
    if Path(asked.target).suffix not in model_export.FORMATS:
        parser.error(f"{asked.target}: must end in {' or '.join(model_export.FORMATS)}")
    return asked


@command
def main() -> int:
    """Write the file, and print what is in it."""
    asked = options()
    classifier = model.read(asked.folder)
    data = model_export.FORMATS[Path(asked.target).suffix](classifier)
    write(asked.target, data)
    sizes = "-".join(map(str, classifier.sizes))
    print(f"{asked.target}: {sizes} to {len(classifier.classes)} classes, {len(data):,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
