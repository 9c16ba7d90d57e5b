"""A scikit-learn classifier behind Triton's Python backend API.

Its weights are its own business: here a joblib file beside this one, loaded in the worker process.
"""

from pathlib import Path

import joblib
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers `label` INT64 `[batch, 1]` and `scores` FP32 `[batch, 10]`, best score highest."""

    @staticmethod
    def auto_complete_config(config):
        """Say what the model takes and answers, in place of a config.pbtxt."""
        config.set_max_batch_size(64)
        config.set_dynamic_batching()
        config.add_input({"name": "pixels", "data_type": "TYPE_FP32", "dims": [64]})
        config.add_output({"name": "label", "data_type": "TYPE_INT64", "dims": [1]})
        config.add_output({"name": "scores", "data_type": "TYPE_FP32", "dims": [10]})
        return config

    def initialize(self, args):
        """Load the weights that lie beside this file."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self.classifier = joblib.load(folder / "classifier.joblib")
        pb_utils.Logger.log_info(f"{args['model_name']} loaded its classifier")

    def execute(self, requests):
        """Compute all requests in one call and give each its own rows back."""
        arrays = [
            pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy() for request in requests
        ]
        scores = self.classifier.decision_function(np.concatenate(arrays)).astype(np.float32)
        labels = self.classifier.classes_[scores.argmax(axis=1)].astype(np.int64)
        responses, start = [], 0
        for array in arrays:
            stop = start + len(array)
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[
                        pb_utils.Tensor("label", labels[start:stop, None]),
                        pb_utils.Tensor("scores", scores[start:stop]),
                    ]
                )
            )
            start = stop
        return responses

    def finalize(self):
        """Let the weights go."""
        del self.classifier
