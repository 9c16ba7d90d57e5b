"""What several rooms keep things in: objects in stores, records in databases.

Nothing of it is loaded before it is used: not obstore, not SQLAlchemy.
"""

from hostler.storage.config import Config
from hostler.storage.json_lines import JsonLines
from hostler.storage.objects import Storage
from hostler.storage.objects.store import ObjectStat, ObjectStore, ObjectWriter
from hostler.storage.sql import (
    Query,
    Resource,
    Resources,
    check_folder,
    has_resources,
    open_resources,
)

__all__ = [
    "Config",
    "JsonLines",
    "ObjectStat",
    "ObjectStore",
    "ObjectWriter",
    "Query",
    "Resource",
    "Resources",
    "Storage",
    "check_folder",
    "has_resources",
    "open_resources",
]
