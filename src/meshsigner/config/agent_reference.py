"""Writes the agent's configuration down: docs/agent-config.md."""

from meshsigner.config.agent import AgentConfig
from meshsigner.config.model import AGENT_PREFIX, LEVEL_SEPARATOR
from meshsigner.config.reference import render_sections

_HEAD = f"""\
# Configuration of the agent

Made by `make docs` from the models in `src/meshsigner/config/agent.py`; a test compares it. Do not
edit. What the agent is for, and how it is run, stands in [agent.md](agent.md).

One YAML file, given to `meshsigner agent run --config FILE`, and the environment, which wins over
the file. For one workload the options of `meshsigner agent run` do as well.

* **Unknown keys are errors**, in the file and in the environment; all problems are told at once.
* **Durations** are whole numbers with units: `500ms`, `90s`, `15m`, `24h`, `1h30m`, `90d`.
* **Secrets are paths** of files, never values; each file is read anew when it is used or changes.
* **Relative paths** start at the agent's working directory.
* **Environment**: `{AGENT_PREFIX}`, then the place in upper case, levels parted by
  `{LEVEL_SEPARATOR}`: `{AGENT_PREFIX}CA{LEVEL_SEPARATOR}CLUSTER_ID=east`. A list is written as
  JSON and replaces the file's.
* **Changes** of the file need a restart, which no Envoy notices; `SIGHUP` renews all certificates.
"""


def render_agent_reference() -> str:
    """Write docs/agent-config.md."""
    return _HEAD + "".join(render_sections(AgentConfig))
