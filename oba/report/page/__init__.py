"""The page of a sweep, ``index.html``: one file that needs no network.

:func:`oba.report.page.payload.payload` gathers what the page shows as plain values, :mod:`oba.report.page.render` puts
them into the template, styles and scripts that lie in ``assets``.
"""
