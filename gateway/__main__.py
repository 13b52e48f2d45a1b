"""Start a gateway: `python -m gateway`. SIGTERM or SIGINT stops it in order."""

import sys

from broker.errors import BrokerError
from gateway.app import run
from gateway.settings import GatewaySettings
from process.start import run_service


def main() -> int:
    """Return the exit status of the process."""
    return run_service("gateway", GatewaySettings, run, BrokerError)


if __name__ == "__main__":
    sys.exit(main())
