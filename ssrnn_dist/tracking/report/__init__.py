"""The report of a run: one self-contained HTML file and its pictures as PNG. Imports the builder, which loads
matplotlib and jinja2 only when a report is built."""

from ssrnn_dist.tracking.report.build import ReportPaths, build_report

__all__ = ["ReportPaths", "build_report"]
