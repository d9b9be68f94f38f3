"""billiard 4.3 makes a pool process that ends wait 30 s for its results to be read, though nobody reads them.

That is three times what `docker stop` grants. Whatever is not read after READ_S is delivered again.
"""

import billiard.pool

#: Seconds that a pool process waits for its results to be read.
READ_S = 3.0


def install() -> None:
    """Shorten the wait; to be called in a pool process."""
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = int(
        READ_S / billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL
    )
