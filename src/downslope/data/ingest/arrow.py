"""Arrow's compute functions as Any: made at run time, they are out of a type checker's sight."""

from __future__ import annotations

from typing import Any

import pyarrow.compute

compute: Any = pyarrow.compute
