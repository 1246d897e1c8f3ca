"""Goes to etc/ipython of the environment: from a kernel's start, a lesson's cell says which one must run before it."""

import os
from pathlib import PurePath

if PurePath(os.environ.get("JPY_SESSION_NAME", "")).name.startswith("0"):  # as lessons do; other kernels start faster
    c = get_config()  # noqa: F821 - IPython's
    c.InteractiveShellApp.extensions.append("lepton_widgets.lessons")
