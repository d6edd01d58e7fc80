"""CreateCertificate: from a call's bytes to `issuance`, and from its answer to bytes.

Decides nothing about identity or certificates. One coroutine frame a call,
bytes in and bytes out: the call's CPU is mostly the RPC shell's
(docs/adr/0009). Every error becomes a status here and nowhere else; what is not
documented becomes INTERNAL and tells the caller nothing.

Source: istio security/v1alpha1/ca.proto; security/pkg/server/ca/server.go.
"""

import asyncio
from typing import NoReturn, Protocol

import grpc
from grpc.aio import ServicerContext

from meshsigner.errors import InvalidCsr
from meshsigner.ports import Answer, Incoming
from meshsigner.rpc.answer import AnswerEncoder
from meshsigner.rpc.calls import Call, CallsInFlight
from meshsigner.rpc.proof import Proves
from meshsigner.rpc.report import CallReports
from meshsigner.rpc.request import IncomingCall
from meshsigner.rpc.status import client_text_of, status_of

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


class Issues(Protocol):
    """What this edge needs of the pipeline."""

    async def issue(self, incoming: Incoming[Answer]) -> Answer:
        """Answer a call.

        Args:
            incoming: The call; its `line` gathers what was learnt.

        Raises:
            MeshsignerError: The call is refused or failed.
        """
        ...


class CertificateService:
    """Istio's certificate service.

    Args:
        issuance: Answers calls.
        calls: Admits them and bounds their time.
        reports: Told how each ended.
        proves: Says what the transport proves of a call.
    """

    def __init__(
        self,
        issuance: Issues,
        *,
        calls: CallsInFlight,
        reports: CallReports,
        proves: Proves,
    ) -> None:
        self._issuance = issuance
        self._calls = calls
        self._reports = reports
        self._proves = proves
        self._encoder = AnswerEncoder()

    def handler(self) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Return the method for gRPC's table.

        It is registered as taking a stream, which a unary client cannot tell:
        only so does the handler run before the message is there, and can bound
        the time that a client takes to send it.
        """
        return grpc.stream_unary_rpc_method_handler(self.create_certificate)

    async def create_certificate(
        self,
        _messages: object,
        context: "ServicerContext[bytes, bytes]",
    ) -> bytes:
        """Handle one call.

        Args:
            context: gRPC's context of the call; the message is read from it.

        Returns:
            The serialised `IstioCertificateResponse`.
        """
        call = self._calls.arrived(context)
        failure: BaseException
        try:
            self._calls.enter(call)
            incoming = self._incoming(call, context, await context.read())
            chain, answer = await self._issuance.issue(incoming)
        except asyncio.CancelledError as cancelled:
            failure = self._why_cancelled(call, cancelled)
        except Exception as error:  # noqa: BLE001 - the edge: no bug may leave a caller unanswered
            failure = error
        else:
            self._reports.put(call, chain)
            return answer
        finally:
            self._calls.leave(call)
        return await self._refuse(call, context, failure)

    def _incoming(
        self, call: Call, context: "ServicerContext[bytes, bytes]", data: object
    ) -> IncomingCall:
        if not isinstance(data, bytes):
            # None was sent, it was cut off, or the transport has refused it as
            # too large and has told the caller so already.
            detail = "the call holds no readable request message"
            raise InvalidCsr(detail)
        headers = context.invocation_metadata() or ()
        proof = self._proves(context)
        return IncomingCall(call, data, headers, proof=proof, encode=self._encoder.encode)

    def _why_cancelled(self, call: Call, cancelled: asyncio.CancelledError) -> BaseException:
        """Tell apart three who may have cancelled a call.

        Returns:
            The error, when the server itself cut the call or something that it
            awaited was cancelled under it, which is a bug.

        Raises:
            CancelledError: The caller is gone.
        """
        if call.task is None or not call.task.cancelling():
            return RuntimeError("something that the call awaited was cancelled")
        if call.cut_by is not None:
            call.task.uncancel()
            return call.cut_by
        self._reports.put(call, cancelled)
        raise cancelled

    async def _refuse(
        self,
        call: Call,
        context: "ServicerContext[bytes, bytes]",
        failure: BaseException,
    ) -> NoReturn:
        self._reports.put(call, failure)
        await context.abort(status_of(failure), client_text_of(failure))
