"""Batch transform: a model over all objects of a folder or bucket.

plan.py       what a job is to do
run.py        the job: lists, leaves out what is finished, hands out tasks, sums up
ports.py      what it needs: stores, a model, somebody who does tasks
"""

from hostler.jobs.transform.check import check_plan
from hostler.jobs.transform.guess import Guess, guess
from hostler.jobs.transform.hands import Hands
from hostler.jobs.transform.listing import first_name
from hostler.jobs.transform.plan import (
    Assemble,
    Errors,
    Filters,
    Input,
    Naming,
    Output,
    Plan,
    Source,
    Split,
    Strategy,
    Table,
    TableForm,
)
from hostler.jobs.transform.ports import Model, Outcome, Runner, Site, Stores, Task
from hostler.jobs.transform.progress import Progress
from hostler.jobs.transform.run import Start, Summary, transform

__all__ = [
    "Assemble",
    "Errors",
    "Filters",
    "Guess",
    "Hands",
    "Input",
    "Model",
    "Naming",
    "Outcome",
    "Output",
    "Plan",
    "Progress",
    "Runner",
    "Site",
    "Source",
    "Split",
    "Start",
    "Stores",
    "Strategy",
    "Summary",
    "Table",
    "TableForm",
    "Task",
    "check_plan",
    "first_name",
    "guess",
    "transform",
]
