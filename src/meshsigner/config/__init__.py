"""The configuration: one YAML file and the environment, checked as a whole.

`load_config` is the way in. `model` has the whole, `sections` and `clusters`
its parts with unit and source of every default, `fields` the kinds of values,
`source` reads YAML, `problems` puts findings into words, `reference` writes
docs/config.md and the effective configuration.
"""

from meshsigner.config.load import build_config, load_config, parse_config
from meshsigner.config.model import Config

__all__ = ["Config", "build_config", "load_config", "parse_config"]
