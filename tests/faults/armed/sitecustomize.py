"""Python runs this at its start when the folder is on PYTHONPATH: it arms the processes of a test."""

import os

if "STEPS_ROOT" in os.environ:
    from tests.faults import arming

    arming.arm(os.environ)
