"""A kubeconfig that others renew in place, and the server that it leads to now.

Decides when a changed file is taken: at once, if it is good; one that is not
is told, and the connection from before is kept.
"""

from pathlib import Path

from meshsigner.errors import ConfigurationError
from meshsigner.kube.connection import Connection, file_version
from meshsigner.kube.kubeconfig import load_kubeconfig
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event


class KubeconfigFile:
    """Where an API server is, by a kubeconfig; looked at before each request.

    Args:
        path: The kubeconfig.
        context: Which context; None takes `current-context`.

    Raises:
        ConfigurationError: It cannot be used as it is now.
    """

    def __init__(self, path: Path, context: str | None = None) -> None:
        self._path = path
        self._context = context
        self._version = self._look()
        self._connection = load_kubeconfig(path, context)

    def current(self) -> Connection:
        """Return the connection for a request that is sent now."""
        version = self._look()
        if version != self._version:
            self._version = version  # a bad file is told once, not with each request
            self._take()
        return self._connection

    def _look(self) -> object:
        try:
            return file_version(self._path)
        except OSError:
            return None

    def _take(self) -> None:
        try:
            self._connection = load_kubeconfig(self._path, self._context)
        except ConfigurationError as error:
            get_logger().error(Event.KUBECONFIG_KEPT, problems=error.problems)
        else:
            get_logger().info(
                Event.KUBECONFIG_TAKEN, path=str(self._path), server=self._connection.server
            )
