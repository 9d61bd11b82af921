"""Files in the order of what they took, the longest first: with one of them begun last, all but one core would wait.

What each took is kept in pytest's cache by every run of the whole suite, so that the order follows the tests by itself.
`SECONDS` stands in where nothing was measured yet, as in a fresh clone; a run that finds it out of date says what it
measured.
"""

from collections import Counter

import pytest

SECONDS = {  # of the files that take longest, two cores and three testers, caches cold
    "test_object_stores": 107, "test_faults": 101, "test_onnx": 60, "test_slurm": 53, "test_hostile": 45,
    "test_append": 34, "test_proxies": 33, "test_ranks": 32, "test_gather": 29, "test_recombine": 27,
    "test_prepare": 26, "test_pretrain": 26, "test_every_generator": 24, "test_symmetric": 23, "test_tables": 22,
    "test_imports": 20, "test_stats": 19, "test_push_pull": 19,
}  # fmt: skip
_KEPT = "longest_first/seconds"
_LONG = 0.015  # of the whole: a file that takes more is to begin early
_OFF = 2  # times as long as the table says


class LongestFirst:
    """A plugin of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.took: Counter[str] = Counter()

    @property
    def cache(self) -> pytest.Cache | None:
        return getattr(self.config, "cache", None)  # there is none with -p no:cacheprovider

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        seconds = SECONDS | (self.cache.get(_KEPT, {}) if self.cache else {})
        items.sort(key=lambda item: -seconds.get(item.path.stem, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.location[0].rpartition("/")[2].removesuffix(".py")] += report.duration

    def pytest_terminal_summary(self, terminalreporter, exitstatus: int) -> None:
        """Keep what each file took; where a fresh clone would begin a long one too late, say what to commit."""
        of_all = self.config.args_source == pytest.Config.ArgsSource.TESTPATHS
        if exitstatus > 1 or not of_all or self.config.option.keyword or self.config.option.markexpr:
            return
        if self.cache:
            self.cache.set(_KEPT, {name: round(seconds, 1) for name, seconds in self.took.items()})
        long = {name: round(s) for name, s in self.took.most_common() if s > _LONG * self.took.total()}
        speed = sum(long.values()) / max(1, sum(SECONDS.get(name, 0) for name in long))  # of this machine
        if any(seconds > _OFF * speed * SECONDS.get(name, 0) for name, seconds in long.items()):
            terminalreporter.write_line(f"tests/made/longest_first.py is out of date; SECONDS = {long}")
