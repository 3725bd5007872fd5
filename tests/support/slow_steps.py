"""Steps whose module takes long to import."""

import time

time.sleep(2.0)

STEPS = {
    "quick": lambda values, report: {"value": values["value"]},
    "slow": lambda values, report: time.sleep(60),
}
