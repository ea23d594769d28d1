"""The one function of Python's former `imp` that databricks-cli 0.17's setup.py calls; Python 3.12 dropped the module.

`make dbx-environment` puts this folder on PYTHONPATH while pip builds; nothing imports it afterwards.
"""

import importlib.util
from types import ModuleType


def load_source(name: str, path: str) -> ModuleType:
    """Load a module from a file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
