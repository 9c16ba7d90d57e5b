"""A package may bring any Python from 3.8 on, so the worker is written in its language."""

import ast
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "src" / "hostler" / "worker"
FILES = sorted(FOLDER.rglob("*.py"))
ALLOWED = {"numpy", "torch", "xgboost"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_syntax_and_imports(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.partition(".")[0])
    assert imported <= ALLOWED | set(sys.stdlib_module_names)
    if any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree)):
        assert "annotations" in {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
