"""Batch transform of tables: columns become tensors, and tensors columns.

    naming.py     what outputs are called
    pipe.py       a task from its first row to its last
    sources.py    objects -> groups of rows; parquet_rows.py, json_rows.py, csv_rows.py the forms
    mapping.py    which columns make which input; columns.py one column's values
    asking.py     groups -> answers, and the bad rows of a request that failed
    outputs.py    answers -> typed columns; writers.py their bytes; faults.py rows set aside

Nothing of it loads Arrow before there is a table.
"""

from hostler.jobs.transform.table.naming import output_name, part_name
from hostler.jobs.transform.table.pipe import TablePipe

__all__ = ["TablePipe", "output_name", "part_name"]
