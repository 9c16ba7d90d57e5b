"""What of the process's environment goes on to pip, to object stores, to a container's models."""

from hostler.config import container_variables, installer_variables, storage_variables


def test_pip_gets_its_own_settings_and_the_networks_and_no_secrets() -> None:
    given = {
        "PIP_INDEX_URL": "https://x",
        "HTTPS_PROXY": "http://p",
        "no_proxy": "y",
        "SSL_CERT_FILE": "/c",
        "HOME": "/home/me",
    }
    others = {
        "AWS_SECRET_ACCESS_KEY": "s",
        "HOSTLER_GATEWAY__PORT": "1",
        "PYTHONPATH": "/x",
        "LD_PRELOAD": "/x",
        "PIP_TARGET": "/x",
        "PIP_USER": "1",
    }
    assert installer_variables({**given, **others}) == given


def test_object_stores_get_the_variables_of_the_aws_sdks_alone() -> None:
    given = {"AWS_ACCESS_KEY_ID": "k", "AWS_CA_BUNDLE": "/c"}
    assert storage_variables({**given, "HOME": "/home/me", "PIP_USER": "1"}) == given


def test_the_models_of_a_container_get_what_its_image_and_the_platform_set() -> None:
    given = {"SAGEMAKER_PROGRAM": "i.py", "MY_FACTOR": "2", "AWS_REGION": "r", "_x": "x" * 1024}
    given["HOSTLER_IMAGE_SCALE"] = "1/255"
    ours = {
        "HOSTLER_GATEWAY__PORT": "1",
        "PATH": "/bin",
        "HOME": "/root",
        "HOSTNAME": "h",
        "PYTHONPATH": "/x",
        "LD_PRELOAD": "/x",
    }
    forbidden = {"LONG": "x" * 1025, "BASH_FUNC_f%%": "() {}", "2ND": "x", "É": "x"}
    assert container_variables({**given, **ours, **forbidden}) == given
