"""A server of bare model files never pays for protobuf; only a fresh interpreter can tell."""

import subprocess
import sys

SCAN = """
import pathlib, sys
from hostler.core import DATATYPES, Inspection, TensorSpec
from hostler.repository import Config, Repository, complete
package = Repository([pathlib.Path(sys.argv[1])], Config()).scan()["digits"]
tensor = TensorSpec("x", DATATYPES["FP32"], (-1, 4))
spec = complete(package.versions[0], Inspection((tensor,), (tensor,)))
assert spec.signature is not None and spec.signature.batched
sys.exit("google.protobuf" in sys.modules)
"""


def test_a_bare_file_is_read_and_completed_without_protobuf(tmp_path):
    (tmp_path / "digits.onnx").write_bytes(b"stub")
    finished = subprocess.run([sys.executable, "-c", SCAN, str(tmp_path)], check=False)
    assert finished.returncode == 0
