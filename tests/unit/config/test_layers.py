"""What of the process's environment goes on to pip."""

from hostler.config import installer_variables


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
