"""The HTTP side of SageMaker: invocations, the control plane, the container contract."""
