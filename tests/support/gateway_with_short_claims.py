"""A gateway whose idempotency keys are renewed, and go stale, sixty times as fast: `python -m` as gateway's own."""

import sys
from datetime import timedelta

from gateway.__main__ import main
from schemas import idempotency

idempotency.RENEW_SECS /= 60
idempotency.STALE = timedelta(seconds=3 * idempotency.RENEW_SECS)

if __name__ == "__main__":
    sys.exit(main())
