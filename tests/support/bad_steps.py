"""Steps that do what a folder of tokens says before they do their work.

A file ``crash``, ``hang``, ``memory``, ``full`` or ``fault`` in the folder that the environment
variable names has the ids of the slides, or the step, to which it happens, and how often: one id
per line, taken away each time.
"""

import os
import time
from pathlib import Path

from qupath_bridge.errors import OutputError
from qupath_bridge.service.steps import STEPS as GOOD

FOLDER = "QUPATH_BRIDGE_TEST_TOKENS"


def is_bad(kind, name):
    """Take a token away; return whether there was one."""
    file = Path(os.environ[FOLDER]) / kind
    lines = file.read_text().split() if file.exists() else []
    if name not in lines:
        return False
    lines.remove(name)
    file.write_text("\n".join(lines))
    return True


def misbehaving(step):
    def carry_out(values, report):
        name = values["task"]["entry_id"] if "task" in values else step
        if is_bad("crash", name):
            os.kill(os.getpid(), 9)
        if is_bad("hang", name):
            time.sleep(600)
        if is_bad("memory", name):
            bytes(64 << 30)
        if is_bad("full", name):
            raise OutputError("Nothing can be written: no space left on device.", may_heal=True)
        if is_bad("fault", name):
            raise ZeroDivisionError("division by zero")
        return GOOD[step](values, report)

    return carry_out


STEPS = {step: misbehaving(step) for step in GOOD}
