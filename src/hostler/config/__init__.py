"""One tree of frozen settings: the rooms' Config structs, filled from a file, environment, flags.

The only reader of the process's environment in the package.
"""

from hostler.config.describe import Setting, nearest
from hostler.config.document import json_value, markdown, yaml_file
from hostler.config.keys_file import NEW_KEYS_FILE, parse_document, with_key
from hostler.config.layers import (
    container_variables,
    installer_variables,
    storage_variables,
    variable_value,
)
from hostler.config.quantities import (
    format_bytes,
    format_quantity,
    format_seconds,
    parse_bytes,
    parse_seconds,
)
from hostler.config.resolve import Resolved
from hostler.config.settings import Settings, known_settings, resolve

__all__ = [
    "NEW_KEYS_FILE",
    "Resolved",
    "Setting",
    "Settings",
    "container_variables",
    "format_bytes",
    "format_quantity",
    "format_seconds",
    "installer_variables",
    "json_value",
    "known_settings",
    "markdown",
    "nearest",
    "parse_bytes",
    "parse_document",
    "parse_seconds",
    "resolve",
    "storage_variables",
    "variable_value",
    "with_key",
    "yaml_file",
]
