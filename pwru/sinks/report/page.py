"""The page of a report: one file that loads nothing and runs nothing but its own program.

The files beside this one are its parts. Data are JSON in an element that is no program, and the page shows them as text
only. The policy in it lets a browser refuse everything else.
"""

import base64
import hashlib
import json
import os
import sys
from string import Template
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import FileLoader

# In the order in which they use each other.
PROGRAM = ("dom.js", "model.js", "filter.js", "overview.js", "list.js", "timeline.js", "packet.js", "main.js")
# What would end the element that the data are in, or begin another one.
_ESCAPED = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}


def page(data: dict[str, Any]) -> bytes:
    """Return the page with these data, as they are in data.py."""
    style = _file("page.css")
    program = "".join(['"use strict";\n(() => {\n', *map(_file, PROGRAM), "})();\n"])
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(program)}; "
        "base-uri 'none'; form-action 'none'"
    )
    text = json.dumps(data, separators=(",", ":")).translate(_ESCAPED)
    made = Template(_file("page.html")).substitute(policy=policy, style=style, program=program, data=text)
    return made.encode()


def _source(text: str) -> str:
    """Return what a policy calls an element with this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    """Return a file beside this one, which may be in an archive."""
    module = sys.modules[__name__]
    path = os.path.join(os.path.dirname(cast("str", module.__file__)), name)
    return cast("FileLoader", module.__loader__).get_data(path).decode()
