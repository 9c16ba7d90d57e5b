"""Models from object stores to the disk: fetched once, unpacked safely, kept within a quota.

source.py     what is asked for, and what the store offers (pure)
fetcher.py    one fetch for all who want the same; what is held
download.py   objects: resumed, retried, verified; part.py: one file of them
unpacking.py  archives, slice by slice (`archives` does it)
cache.py      the folder, its locks, what is in it; quota.py: how much
prefix.py     the archives of a multi-model container
"""

from hostler.repository.fetch.fetcher import Fetched, Fetcher
from hostler.repository.fetch.prefix import ArchivePrefix
from hostler.repository.fetch.source import ModelSource

__all__ = ["ArchivePrefix", "Fetched", "Fetcher", "ModelSource"]
