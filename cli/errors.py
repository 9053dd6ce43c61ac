"""Errors that only the command line knows."""

from __future__ import annotations

from kong_cloudtrail.errors import CollectorError


class QueryError(CollectorError):
    """A query has no answer."""


class QueryWrong(QueryError):
    """The SQL, or the name of the query, is wrong."""


class QueryRefused(QueryError):
    """Athena refuses the query; a retry does not help until somebody changes something."""


class QueryUnavailable(QueryError):
    """Athena could not be reached, or failed, or the query was stopped: it may work later."""


class AnswerLost(CollectorError):
    """A deployed function did not answer, so it is not known what it did."""


class RemoteRequestInvalid(CollectorError):
    """A deployed function says that its settings, or what it was asked for, are wrong."""
