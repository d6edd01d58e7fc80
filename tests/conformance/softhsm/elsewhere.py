"""What tests have done by a process of its own: it initialises the module for itself.

python -m tests.conformance.softhsm.elsewhere sign DIRECTORY SETTINGS
python -m tests.conformance.softhsm.elsewhere read
"""

import asyncio
import sys
from pathlib import Path

import pkcs11
from pkcs11 import Attribute, ObjectClass
from pkcs11.exceptions import PKCS11Error

from meshsigner.model import Chain
from meshsigner.signing.pkcs11.settings import Pkcs11Settings
from tests.conformance.softhsm.bench import started
from tests.conformance.softhsm.token import LABEL, MODULE, PIN, SoftHsm

PROJECT = Path(__file__).resolve().parents[3]
COUNT = 10
READ = (sys.executable, "-m", __name__, "read")
SIGN = (sys.executable, "-m", __name__, "sign")


def _read_value() -> str:
    """Log in and try to read the private key's value."""
    token = pkcs11.lib(str(MODULE)).get_token(token_label=LABEL)
    with token.open(user_pin=PIN) as session:
        (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        try:
            return repr(key[Attribute.VALUE])
        except PKCS11Error as error:
            return type(error).__name__


async def _sign(directory: str, settings: str) -> str:
    """Sign as a worker does, and return how many certificates came."""
    hsm = SoftHsm(directory=Path(directory))
    async with started(hsm, Pkcs11Settings.model_validate_json(settings)) as bench:
        return str(sum(isinstance(chain, Chain) for chain in await bench.sign(COUNT)))


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    print(_read_value() if what == "read" else asyncio.run(_sign(*arguments)))  # noqa: T201 - the answer
