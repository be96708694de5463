"""Log the progress of a long job every few seconds."""

import logging
import time

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_REPORTS = 10


class Progress:
    """Counts finished items, and logs their number, their speed and the time left."""

    def __init__(self, total: int, unit: str = "sentences", name: str = ""):
        """`total` is the number of items to do, `unit` their name in the plural, and `name` starts each line."""
        self.total, self.done, self.unit = total, 0, unit
        self.prefix = f"{name}: " if name else ""
        self.started = self.reported = time.monotonic()

    def add(self, items: int) -> None:
        """Count `items` more as done, and log the progress if some seconds have passed or nothing is left."""
        self.done += items
        now = time.monotonic()
        if now - self.reported >= SECONDS_BETWEEN_REPORTS or self.done == self.total:
            self.reported = now
            speed = self.done / max(now - self.started, 1e-6)
            logger.info(
                f"{self.prefix}{self.done:,} of {self.total:,} {self.unit}, {speed:,.1f} {self.unit}/s, "
                f"{(self.total - self.done) / speed / 60:,.1f} min left"
            )
