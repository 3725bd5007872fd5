"""Tasks that leave this process: what can go, as what it goes, and what comes back."""

from __future__ import annotations

import dataclasses
import json
import platform
import traceback

from qupath_bridge import registry
from qupath_bridge._version import __version__
from qupath_bridge.errors import BridgeError, MissingDependencyError, UsageError
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.plan import Failure
from qupath_bridge.pipeline.task import SlideProgress, SlideResult, SlideTask, process_slide

__all__ = [
    "carry_out",
    "check_portable",
    "died",
    "of_one_thread",
    "other_version",
    "portable",
    "sent",
]


def check_portable(task: SlideTask) -> None:
    """Refuse parts that only exist in this process.

    Raises
    ------
    UsageError
        With the kind and the name of the part.
    """
    config = task.config
    used = [
        ("source", task.source.engine),
        ("reader", task.options.reader),
        ("encoder", config.format),
        ("output", registry.split_argument(config.container)[0]),
        ("tissue", registry.split_argument(config.tissue)[0]),
        ("stain", registry.split_argument(config.stain)[0]),
        *(("quality", name) for name in config.quality_rules().measures),
    ]
    for kind, name in used:
        if name in {"auto", "none"}:
            continue
        if registry.is_registered(kind, name) or getattr(
            registry.load(kind, name), "in_process", False
        ):
            raise UsageError(
                f"The {kind} {name!r} exists in this process only; other processes cannot use it.",
                hint="Use the runner threads.",
            )


def of_one_thread(task: SlideTask) -> SlideTask:
    """Return a task that works with one thread: there are several tasks at a time."""
    return dataclasses.replace(task, options=task.options.replace(workers=1))


def died(task: SlideTask) -> SlideResult:
    """Return the result of a slide whose process died, also when it worked on nothing else."""
    failure = Failure(
        task.entry_id,
        task.slide_id,
        "The process that worked on this slide died, twice.",
        "Is there enough memory? Resume the run with fewer workers.",
        task.slide_id,
        task.source.location,
    )
    return SlideResult(task.entry_id, task.slide_id, task.slide_id, failure=failure)


def sent(task: SlideTask) -> str:
    """Return a task as it goes to another machine: JSON, with the version that wrote it.

    Text can be carried by what knows nothing of this package, and nothing runs when it is read.
    """
    return json.dumps({"version": __version__, "task": of_one_thread(task).as_json()})


def carry_out(
    order: str, *, progress: SlideProgress | None = None, cancel: Cancel | None = None
) -> SlideResult | Exception:
    """Carry out what :func:`sent` made, on the machine that it came to.

    Errors that end the run are returned: whatever an engine does with an exception (it tries
    again, makes a text of it, or cannot send its traceback), the values come back as they are.
    What nobody expected becomes a text, because its own class may not be known elsewhere.
    """
    values = json.loads(order)
    if values["version"] != __version__:
        return other_version(f"The worker on {platform.node()}", __version__, values["version"])
    try:
        return process_slide(SlideTask.from_json(values["task"]), progress=progress, cancel=cancel)
    except BridgeError as error:
        return portable(error)
    except Exception:  # noqa: BLE001  # it is raised again where the run was started
        place = f"{values['task']['slide_id']}, on {platform.node()}"
        return RuntimeError(f"{place}: {traceback.format_exc()}")


def portable(error: BridgeError) -> BridgeError:
    """Return an error that can be sent: its traceback becomes a note, its causes stay here.

    Dask lets all processes that import it send causes and tracebacks with errors, and what another
    library raised may have no form that can be sent.
    """
    error.add_note(f"On {platform.node()}: {''.join(traceback.format_exception(error))}")
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def other_version(place: str, there: str | None, here: str) -> MissingDependencyError:
    """Return the error for a place that has another version of this package, or none."""
    return MissingDependencyError(
        f"{place} has {f'qupath-bridge {there}' if there else 'no qupath-bridge'}; "
        f"the run was started with {here}.",
        hint="Install the same version on all machines.",
    )
