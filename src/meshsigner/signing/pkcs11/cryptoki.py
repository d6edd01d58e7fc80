"""The three calls that python-pkcs11 does not offer, made by ctypes.

Initialising with locking, so that several threads may call; logging in on a
session that is open already, so that a refused PIN leaves no session behind;
and asking whether the application is logged in. All go through the module's
own function list: no other symbol need be exported.

Source: PKCS #11 v2.40 5.4 (C_Initialize), 5.6 (C_Login), 3.3 (CK_SESSION_INFO).
"""

import ctypes
from pathlib import Path

from meshsigner.errors import ConfigurationError

OK = 0x00
USER_ALREADY_LOGGED_IN = 0x100
_NOT_INITIALIZED = 0x190
_NOTHING_TO_END = frozenset({OK, _NOT_INITIALIZED})
# CKR_PIN_INCORRECT, _INVALID, _LEN_RANGE, _EXPIRED, _LOCKED, CKR_USER_PIN_NOT_INITIALIZED
PIN_FAULTS = {
    0xA0: "incorrect",
    0xA1: "invalid",
    0xA2: "too short or too long",
    0xA3: "expired",
    0xA4: "locked",
    0x102: "not set",
}
_USER = 1
_OS_LOCKING_OK = 0x02
_USER_STATES = frozenset({1, 3})  # CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS

# The head of CK_FUNCTION_LIST, in the order that the standard fixes.
_FUNCTIONS = (
    *("C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList"),
    *("C_GetSlotInfo", "C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo"),
    *("C_InitToken", "C_InitPIN", "C_SetPIN", "C_OpenSession", "C_CloseSession"),
    *("C_CloseAllSessions", "C_GetSessionInfo", "C_GetOperationState"),
    *("C_SetOperationState", "C_Login"),
)
_ULONG, _POINTER = ctypes.c_ulong, ctypes.c_void_p
_PROTOTYPES = {
    "C_Initialize": ctypes.CFUNCTYPE(_ULONG, _POINTER),
    "C_Finalize": ctypes.CFUNCTYPE(_ULONG, _POINTER),
    "C_GetSessionInfo": ctypes.CFUNCTYPE(_ULONG, _ULONG, _POINTER),
    "C_Login": ctypes.CFUNCTYPE(_ULONG, _ULONG, _ULONG, ctypes.c_char_p, _ULONG),
}


class _FunctionList(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        *((name, ctypes.c_void_p) for name in _FUNCTIONS),
    )


class _InitializeArgs(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("create", "destroy", "lock", "unlock")),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class _SessionInfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulong) for name in ("slot", "state", "flags", "error"))


class CallFailed(Exception):
    """A call of the module returned an error.

    Args:
        function: Which.
        code: Its CK_RV.
    """

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function} returned 0x{code:x}")
        self.code = code


class Cryptoki:
    """A PKCS #11 module's own function list.

    Args:
        path: The shared library.

    Raises:
        ConfigurationError: It cannot be loaded, or is no PKCS #11 module.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
            get_function_list = self._library.C_GetFunctionList
        except OSError as error:
            raise ConfigurationError(
                f"{path}: cannot be loaded ({error}); expected the HSM's PKCS #11 module, a shared "
                "library; check `module` and that its own libraries are installed"
            ) from error
        except AttributeError as error:
            raise ConfigurationError(
                f"{path}: is no PKCS #11 module, it has no C_GetFunctionList; set `module` to the "
                "library that the HSM's vendor names"
            ) from error
        functions = ctypes.POINTER(_FunctionList)()
        self._check("C_GetFunctionList", get_function_list(ctypes.byref(functions)))
        self._functions = functions.contents

    def restart(self, *, locking: bool) -> None:
        """Finalize and initialize: every session and login of this process is gone.

        Args:
            locking: True lets several threads call the module at once; a module
                that was initialised without may corrupt memory then.

        Raises:
            CallFailed: The module refuses.
        """
        self.end()
        arguments = _InitializeArgs(flags=_OS_LOCKING_OK)
        code = self._call("C_Initialize", ctypes.byref(arguments) if locking else None)
        self._check("C_Initialize", code)

    def end(self) -> None:
        """Finalize the module, if it is initialised.

        Raises:
            CallFailed: The module refuses.
        """
        code = self._call("C_Finalize", None)
        if code not in _NOTHING_TO_END:
            raise CallFailed("C_Finalize", code)

    def is_logged_in(self, session: int) -> bool:
        """Tell whether this process is logged in as the user on a session's token."""
        info = _SessionInfo()
        code = self._call("C_GetSessionInfo", session, ctypes.byref(info))
        self._check("C_GetSessionInfo", code)
        return info.state in _USER_STATES

    def login(self, session: int, pin: bytes) -> int:
        """Log in as the user, for all of this process's sessions with the token.

        Args:
            session: Handle of one of them.
            pin: As the token wants it, UTF-8.

        Returns:
            `OK`, or a code of `PIN_FAULTS`.

        Raises:
            CallFailed: Something else than the PIN is wrong.
        """
        code = self._call("C_Login", session, _USER, pin, len(pin))
        if code in {OK, USER_ALREADY_LOGGED_IN}:
            return OK
        if code in PIN_FAULTS:
            return code
        raise CallFailed("C_Login", code)

    def _call(self, function: str, *arguments: object) -> int:
        """Call a function of the list; the interpreter's lock is released meanwhile."""
        code: int = _PROTOTYPES[function](getattr(self._functions, function))(*arguments)
        return code

    def _check(self, function: str, code: int) -> None:
        if code != OK:
            raise CallFailed(function, code)
