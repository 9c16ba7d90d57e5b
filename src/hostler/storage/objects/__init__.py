"""Objects by URL: local folders, buckets, web servers."""

from hostler.storage.objects.stores import Storage

__all__ = ["Storage"]
