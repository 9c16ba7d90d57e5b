"""Run in an environment with the SageMaker SDK 2.x: `predictor.py URL ENDPOINT MODEL_DATA`.

Predicts with three serialisers, deploys a model of its own, updates and deletes it; transforms
s3://bucket/in/ to s3://bucket/out2/ with it.
"""

import json
import sys

import boto3
import numpy as np
import sagemaker
from sagemaker.deserializers import CSVDeserializer, JSONDeserializer, NumpyDeserializer
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer, JSONSerializer, NumpySerializer
from sagemaker.transformer import Transformer

url, endpoint, model_data = sys.argv[1:]
boto = boto3.Session(
    region_name="us-east-1", aws_access_key_id="AKIATEST", aws_secret_access_key="secret"
)
session = sagemaker.Session(
    boto_session=boto,
    sagemaker_client=boto.client("sagemaker", endpoint_url=url),
    sagemaker_runtime_client=boto.client("sagemaker-runtime", endpoint_url=url),
    default_bucket="models",
)
rows = [[1.0, 2.0, 3.0, 4.0]]
found = {"version": sagemaker.__version__}
for name, serializer, deserializer in (
    ("json", JSONSerializer(), JSONDeserializer()),
    ("csv", CSVSerializer(), CSVDeserializer()),
    ("npy", NumpySerializer(dtype="float32"), NumpyDeserializer()),
):
    predictor = Predictor(endpoint, session, serializer=serializer, deserializer=deserializer)
    found[name] = np.array(predictor.predict(rows), float).tolist()

role = "arn:aws:iam::000000000000:role/hostler"
model = Model("hostler", model_data=model_data, role=role, sagemaker_session=session, name="sdk")
model.deploy(1, "ml.m5.large", endpoint_name="sdk", wait=True)
deployed = Predictor("sdk", session, serializer=JSONSerializer(), deserializer=JSONDeserializer())
found["deployed"] = deployed.predict(rows)
deployed.delete_endpoint()

transformer = Transformer(
    "sdk",
    1,
    "ml.m5.large",
    strategy="MultiRecord",
    assemble_with="Line",
    accept="text/csv",
    output_path="s3://bucket/out2/",
    sagemaker_session=session,
)
transformer.transform(
    "s3://bucket/in/",
    content_type="text/csv",
    split_type="Line",
    join_source="Input",
    job_name="sdk-2",
    wait=False,
    logs=False,
)
session.wait_for_transform_job("sdk-2", poll=1)  # as its `wait`, which looks every 5 s
attached = Transformer.attach("sdk-2", sagemaker_session=session)
found["transformed"] = [attached.model_name, attached.output_path, attached.strategy]
model.delete_model()
print("\n" + json.dumps(found))
