"""The report of a run, and of what it cost: self-contained HTML files and their pictures as PNG.

Imports the builders, which load matplotlib and jinja2 only when something is built."""

from ssrnn_dist.tracking.report.build import build_report
from ssrnn_dist.tracking.report.keeper import OverviewKeeper
from ssrnn_dist.tracking.report.overview import build_overview
from ssrnn_dist.tracking.report.page import ReportPaths

__all__ = ["OverviewKeeper", "ReportPaths", "build_overview", "build_report"]
