"""Which URLs are read: a plain one of a store whose package is there; never a command, a chain or a password.

And how a URL is shown in messages. Nothing is opened here.
"""

import re
from urllib.parse import urlsplit

from ssrnn_data.errors import data_error

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# A user with a password, or in HTTP any user: tokens are written so. An Azure container is no secret.
_SECRET = re.compile(r"(?<=://)[^/@]*:[^/@]*(?=@)|(?:(?<=http://)|(?<=https://))[^/@]+(?=@)")
# These read through other files, caches or repositories, and not what a URL names.
_ARCHIVES = ("libarchive", "tar", "zip")
_CACHES = ("blockcache", "cached", "filecache", "simplecache")
_WRAPPERS = ("asynclocal", "async_wrapper", "dask", "data", "dir", "dirfs", "generic", "reference")
_NO_STORES = frozenset({*_ARCHIVES, *_CACHES, *_WRAPPERS, "git", "jlab", "jupyter"})
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_FORMS = "s3://, gs://, https:// and other stores that fsspec knows are allowed"


def is_url(text: str) -> bool:
    """Whether it has the form `scheme://…`."""
    return _URL.match(text) is not None


def shown(url: str) -> str:
    """A URL as messages show it: without a password, and without a query, which may hold a signature."""
    url = _SECRET.sub("…", url)
    return url.partition("?")[0].partition("#")[0] if url.startswith(("http://", "https://")) else url


def check_url(url: str) -> None:
    """Raises DataError for what is no plain URL of a store: a command, a chain, a password in it, an unknown scheme."""
    if "::" in url:
        raise data_error(shown(url), "a chain of URLs", f"a single one is allowed: {_FORMS}")
    if not is_url(url):
        raise data_error(url, "not a URL, and commands such as pipe: are never run", _FORMS)
    try:
        place = urlsplit(url)
    except ValueError as error:
        raise data_error(shown(url), f"not a URL ({error})", _FORMS) from None
    scheme = url.partition("://")[0]
    if place.password is not None or (place.username and scheme in ("http", "https")):
        raise data_error(shown(url), "a user or password in the URL", "keys come from the environment or ~/.netrc")
    _check_scheme(url, scheme)


def _check_scheme(url: str, scheme: str) -> None:
    import fsspec

    if scheme in _NO_STORES:
        raise data_error(shown(url), f"{scheme!r} is no store", _FORMS)
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise data_error(shown(url), f"the scheme {scheme!r} is unknown", _FORMS) from None
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        install = f"`pip install 'ssrnn-dist[{extra}]'` reads it" if extra else f"its package is needed ({error})"
        raise data_error(shown(url), f"the package for {scheme}:// is not installed", install) from None
