"""The names of asyncua 2.1.0, without its annotations.

Its annotations contradict its own calls (a NodeId declares Int32 and String objects of its own and is given int and str),
so a type checker can only reject correct code. What is used here is checked by the tests against a real client.
"""

from __future__ import annotations

from typing import Any

from asyncua import ua as _ua

ua: Any = _ua
