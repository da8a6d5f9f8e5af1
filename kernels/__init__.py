"""Compiled loops over arrays. They know nothing of anything else here."""

import os

from kernels.processor import chosen_processor

if (_name := chosen_processor(os.environ)) is not None:  # before numba is imported, which reads it then
    os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = _name, ""
