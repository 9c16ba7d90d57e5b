"""Python environments of packages: what they are, where they are kept, and building them.

requirements.py  a requirements.txt and all that it includes, as one
recipe.py        the key of an environment: what it is made of, before it is made
store.py         the cache folder, its locks, what is in it
build.py         the commands, run by steps.py; pip_output.py reads what pip says
guard.py, unpack.py  programs of their own: nothing of a package runs in this process
"""

from hostler.repository.environments.environments import Environments
from hostler.repository.environments.store import EnvironmentStore, Pruned, StoredEnvironment

__all__ = ["EnvironmentStore", "Environments", "Pruned", "StoredEnvironment"]
