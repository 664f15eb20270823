"""`python fake_worker.py …`: `python -m workers …` with a second model, "fake", whose jobs run until a file appears."""

import os
import runpy
import sys
from pathlib import Path

from workers.__main__ import main
from workers.model import LOADERS


def load(threads: int) -> object:
    """Load the model, or fail as the environment says."""
    if "FAKE_LOAD_FAILS" in os.environ:
        raise ValueError("weights are\nnot what their digest says")
    if "FAKE_PACKAGE_MISSING" in os.environ:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    conftest = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    return conftest["FakeModel"](Path(os.environ["FAKE_RELEASE_FILE"]).exists)


LOADERS["fake"] = load

if __name__ == "__main__":
    sys.exit(main())
