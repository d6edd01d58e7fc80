"""One server process, from its settings: assembly, start, reload, end.

`parts` turns settings into values and adapters, `server` puts them together
and starts them, `process` runs that in an event loop under signals.
"""

from meshsigner.app.process import run
from meshsigner.app.server import Server

__all__ = ["Server", "run"]
