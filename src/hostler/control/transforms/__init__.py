"""Transform jobs: what is written down of them, what they ask for, and what runs them.

record.py   the record, and the life of a job as a table
decide.py   what follows from a record and from what is seen
ports.py    what it needs: the engine, models of the repository
run.py      one job: its models come up, the engine runs, they go
keeper.py   one job in line with its record
driver.py   all of them
"""

from hostler.control.transforms.driver import TransformDriver
from hostler.control.transforms.ports import Transforming

__all__ = ["TransformDriver", "Transforming"]
