"""Tables, figures and a page, made from the JSON and CSV files of the stages; never from a model.

The ways in are :func:`oba.report.build.build_report`, which writes the whole report, and
:func:`oba.report.terminal.closing_text`, which returns what a finished run prints.
"""
