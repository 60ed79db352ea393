"""Write the trained classifier in another's format.

usage: python -m stages.model_export TARGET.onnx | TARGET.pkl [--folder models/classifier]
"""

import argparse
import sys
from pathlib import Path

from pipeline.commands import model_export
from pipeline.core.errors import QuadratError
from pipeline.train import model


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.model_export",
        description="Write the trained classifier, its standardisation and calibration included, "
        "in another's format: .onnx for ONNX, .pkl for a scikit-learn pickle that PySpacer loads. "
        "Whoever opens a pickle runs what is in it: give it to people who trust you.",
    )
    parser.add_argument("target", type=Path, metavar="TARGET.onnx | TARGET.pkl")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("models/classifier"),
        help="where the classifier is (models/classifier)",
    )
    asked = parser.parse_args()
    if asked.target.suffix not in model_export.FORMATS:
        parser.error(f"{asked.target}: must end in {' or '.join(model_export.FORMATS)}")
    return asked


def main() -> int:
    """Write it, and say what was written."""
    asked = options()
    try:
        classifier = model.read(asked.folder)
        data = model_export.FORMATS[asked.target.suffix](classifier)
        asked.target.write_bytes(data)
    except QuadratError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{asked.target}: cannot be written ({error.strerror})", file=sys.stderr)
        return 4
    sizes = "-".join(map(str, classifier.sizes))
    print(f"{asked.target}: {sizes} to {len(classifier.classes)} classes, {len(data):,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
