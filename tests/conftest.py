"""The same examples in every run: a run that fails can be run again, and a change is judged by what it changed.

`HYPOTHESIS_PROFILE=explore` draws fresh ones.
"""

import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
