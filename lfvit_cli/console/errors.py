"""An exception becomes one line of advice and an exit code."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from lfvit_cli.console import talk

FAILED = 1
INTERRUPTED = 130

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def advice(debug: bool = False) -> Iterator[None]:
    """Show an exception as one line on standard error and exit; also a decorator.

    Args:
        debug: Let the exception pass, with its traceback.

    Raises:
        SystemExit: With 130 after an interrupt and 1 after any other exception.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError:
        # The reader has left. Python flushes standard output once more on its way out, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        talk.error(explain(error))
        raise SystemExit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED) from None


def explain(error: BaseException) -> str:
    """Return what an exception means for the person at the terminal."""
    if hasattr(error, "remedy"):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _FULL):
        return _explain_file(error)
    return f"internal error: {type(error).__name__}: {error}; run again with --debug for the traceback"


def _explain_file(error: OSError) -> str:
    subject = "" if error.filename is None else f"{error.filename}: "
    if error.errno in _FULL:
        remedy = "Free some space, or write elsewhere"
    elif error.errno in _FORBIDDEN:
        remedy = "Change its permissions, or choose another place"
    else:
        remedy = "Check the path"
    return f"{subject}{error.strerror}. {remedy}"
