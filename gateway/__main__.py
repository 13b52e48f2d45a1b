"""Start a gateway: `python -m gateway`. SIGTERM or SIGINT stops it in order."""

import os
import sys

from broker.errors import BrokerError
from gateway.app import run
from gateway.settings import GatewaySettings
from process.logs import set_up_logging
from process.signals import run_until_signal
from schemas.settings import SettingsError, from_environment


def main() -> int:
    try:
        settings = from_environment(GatewaySettings, os.environ)
    except SettingsError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 2
    set_up_logging(settings.log_level)
    return run_until_signal(run(settings), expected=BrokerError)


if __name__ == "__main__":
    sys.exit(main())
