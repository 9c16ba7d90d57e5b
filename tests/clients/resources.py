"""Run in an environment with the SageMaker SDK 3.x: `resources.py ENDPOINT MODEL_DATA`.

The server is named by AWS_ENDPOINT_URL, as users would. Transforms s3://bucket/in/ to
s3://bucket/out3/ twice.
"""

import json
import sys
from importlib.metadata import version

from sagemaker.core.resources import Endpoint, EndpointConfig, Model, TransformJob
from sagemaker.core.shapes import (
    ContainerDefinition,
    ProductionVariant,
    TransformDataSource,
    TransformInput,
    TransformOutput,
    TransformResources,
    TransformS3DataSource,
)
from sagemaker.core.transformer import Transformer

endpoint, model_data = sys.argv[1:]
body = json.dumps([[1.0, 2.0, 3.0, 4.0]])
found = {"version": version("sagemaker-core")}
existing = Endpoint.get(endpoint_name=endpoint)
found["status"] = existing.endpoint_status
answer = existing.invoke(body=body, content_type="application/json", accept="application/json")
found["invoked"] = json.loads(answer.body.read())
found["content_type"] = answer.content_type

model = Model.create(
    model_name="core",
    primary_container=ContainerDefinition(model_data_url=model_data),
    execution_role_arn="arn:aws:iam::000000000000:role/hostler",
)
variant = ProductionVariant(
    variant_name="all", model_name="core", initial_instance_count=1, instance_type="ml.m5.large"
)
config = EndpointConfig.create(endpoint_config_name="core", production_variants=[variant])
created = Endpoint.create(endpoint_name="core", endpoint_config_name="core")
created.wait_for_status("InService", poll=1, timeout=60)
answer = created.invoke(body=body, content_type="application/json")
found["created"] = json.loads(answer.body.read())
found["listed"] = sorted(e.endpoint_name for e in Endpoint.get_all())
created.delete()
config.delete()

source = TransformS3DataSource(s3_data_type="S3Prefix", s3_uri="s3://bucket/in/")
job = TransformJob.create(
    transform_job_name="core-3",
    model_name="core",
    transform_input=TransformInput(
        data_source=TransformDataSource(s3_data_source=source),
        content_type="text/csv",
        split_type="Line",
    ),
    transform_output=TransformOutput(
        s3_output_path="s3://bucket/out3/resource/", accept="text/csv", assemble_with="Line"
    ),
    transform_resources=TransformResources(instance_type="ml.m5.large", instance_count=1),
)
job.wait(poll=1, timeout=60)
transformer = Transformer(
    "core",
    1,
    "ml.m5.large",
    assemble_with="Line",
    accept="text/csv",
    output_path="s3://bucket/out3/transformer/",
)
transformer.transform(
    "s3://bucket/in/", content_type="text/csv", split_type="Line", job_name="sdk-3", wait=False
)
transformer.latest_transform_job.wait(poll=1, timeout=60)
found["transformed"] = [
    job.transform_job_status,
    transformer.latest_transform_job.transform_job_status,
]
model.delete()
print(json.dumps(found))
