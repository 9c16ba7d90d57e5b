"""The mean of each row, in Triton's Python backend: what `graphs.mean` computes, in a worker."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """`values` FP32 `[batch, 150528]` to `mean` FP32 `[batch, 1]`."""

    @staticmethod
    def auto_complete_config(config):
        """Say what the model takes and answers."""
        config.set_max_batch_size(64)
        config.set_dynamic_batching()
        config.add_input({"name": "values", "data_type": "TYPE_FP32", "dims": [150528]})
        config.add_output({"name": "mean", "data_type": "TYPE_FP32", "dims": [1]})
        return config

    def execute(self, requests):
        """Compute each request by itself."""
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "values").as_numpy()
            result = values.mean(axis=1, keepdims=True, dtype=np.float32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("mean", result)]))
        return responses
