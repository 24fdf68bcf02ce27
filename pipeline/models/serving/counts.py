"""Counts of a server's requests, in the text format of Prometheus."""

from collections import Counter

KIND = "text/plain; version=0.0.4; charset=utf-8"


class Counts:
    """Requests for predictions by status, their total time, and the number of scored rows."""

    def __init__(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._seconds, self._rows = 0.0, 0

    def add(self, status: int, seconds: float, rows: int) -> None:
        """Count an answer."""
        self._statuses[status] += 1
        self._seconds += seconds
        self._rows += rows

    def text(self, name: str, version: int) -> str:
        """All counts in Prometheus' text format.

        Args:
            name, version: the model in use.
        """
        label = name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        lines = [
            "# HELP pipeline_model_info The model that answers.",
            "# TYPE pipeline_model_info gauge",
            f'pipeline_model_info{{name="{label}",version="{version}"}} 1',
            "# HELP pipeline_requests_total Requests for predictions, by status.",
            "# TYPE pipeline_requests_total counter",
            *(f'pipeline_requests_total{{status="{status}"}} {count}'
              for status, count in sorted(self._statuses.items())),
            "# HELP pipeline_request_seconds Time from a request to its answer.",
            "# TYPE pipeline_request_seconds summary",
            f"pipeline_request_seconds_sum {self._seconds:.6f}",
            f"pipeline_request_seconds_count {self._statuses.total()}",
            "# HELP pipeline_predictions_total Rows that were scored.",
            "# TYPE pipeline_predictions_total counter",
            f"pipeline_predictions_total {self._rows}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"
