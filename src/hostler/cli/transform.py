"""`hostler transform`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hostler import app
from hostler.cli.arguments import takes
from hostler.cli.failures import Misuse
from hostler.cli.options import with_settings
from hostler.cli.output import print_json, print_text
from hostler.cli.transform_options import Arguments, On
from hostler.cli.transform_plan import assumed, in_options, looks, plan_of, url_of
from hostler.cli.transform_progress import counted, failures, shown
from hostler.config import Settings, format_seconds
from hostler.core import Report, SystemClock
from hostler.jobs import Input, Plan, Progress, Source, Summary

__all__ = ["command"]

_STOPPED: Final = 130  # 128 + SIGINT, as shells have it


@with_settings()
@takes(Arguments, after="resolved")
def command(resolved: Any, arguments: Arguments) -> int:
    """Run a model over every object of a folder or bucket: batch transform.

    Each object NAME gives NAME.out, written only when it is whole. A job that was stopped or
    killed goes on when the same command is given again.

    [bold]hostler transform ./models/digits -i ./rows -o ./answers[/bold]

    [bold]hostler transform model.tar.gz -i s3://in/photos/ -o s3://out/ --on-error skip[/bold]

    [bold]hostler transform ./digits.onnx -i ./rows.parquet -o ./answers --keep id[/bold]

    Exit code 0 if all went well, 1 if objects failed, 130 if it was stopped.
    """
    settings = resolved.settings
    source = Source.MANIFEST if arguments.manifest else Source.PREFIX
    first = ""
    if looks(arguments):
        wanted = Input(url=url_of(arguments.input), source=source)
        first = app.first_input(settings, wanted, url_of(arguments.output, folder=True))
    plan = plan_of(arguments, first)
    if arguments.dry_run:
        print_json(msgspec.to_builtins(plan))
        return 0
    progress, clock = Progress(), SystemClock()
    with shown(progress, clock) as report:
        told = assumed(arguments, plan, first)
        if told:
            report(told)
        summary = _run(settings, arguments, plan, progress, report)
    _tell(arguments, plan, summary, clock.now() - progress.started)
    return _STOPPED if summary.stopped else int(bool(summary.failure))


def _run(
    settings: Settings, arguments: Arguments, plan: Plan, progress: Progress, report: Report
) -> Summary:
    environment = dict(_variable(text) for text in arguments.env or ())
    ask = app.ModelAsk(
        model=arguments.model,
        repository=tuple(str(path) for path in arguments.repository or ()),
        image=arguments.image,
        environment=environment,
        instances=arguments.instances,
    )
    cluster = None
    if arguments.on is On.RAY:
        cluster = app.Cluster(
            address=arguments.ray_address,
            workers=arguments.workers,
            worker_cpus=arguments.worker_cpus,
        )
    return app.transform(
        settings, app.Job(plan=plan, model=ask, fresh=arguments.fresh, cluster=cluster),
        progress, report,
    )  # fmt: skip


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Misuse(f"--env {text}: NAME=VALUE is expected")
    return name, value


def _tell(arguments: Arguments, plan: Plan, summary: Summary, seconds: float) -> None:
    if arguments.as_json:
        print_json(
            {
                "status": "Stopped" if summary.stopped else "Failed" if summary.failure
                else "Completed",
                "output": plan.output.url,
                "seconds": round(seconds, 3),
                **msgspec.to_builtins(summary),
                "reason": summary.failure,
            }
        )  # fmt: skip
        return
    print_text(counted(summary, seconds))
    if summary.reason:
        print_text(f"It ended early: {in_options(summary.reason)}")
    if summary.skipped:
        print_text(f"Records set aside are in {plan.output.url}*.errors.jsonl, with their reasons.")
    for text in failures(summary):
        print_text(f"  failed: {in_options(text)}")
    if summary.failed:
        print_text("Mend what is wrong and give the same command again: what is done stays done.")
    if summary.stopped:
        print_text(f"Stopped after {format_seconds(seconds)}; the same command goes on from here.")
