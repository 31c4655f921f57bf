"""Errors for the person who typed the command: one line, no traceback."""

import errno
import functools
import io
import os
import sys
from collections.abc import Callable

_WRITING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR),
}


class UserError(Exception):
    """Something that the user can mend. The message, one line, says what is wrong, where, and what to do."""

    def __str__(self) -> str:
        # A data loading process hands its errors on with its traceback before the message.
        return super().__str__().strip().rpartition("\n")[2].removeprefix(f"{__name__}.UserError: ")


def exits_cleanly(main: Callable[[], None]) -> Callable[[], None]:
    """Make ``main`` print a UserError as one line on standard error and exit with status 1.

    So does it with what a full disk or a folder without write permission raises.
    """

    @functools.wraps(main)
    def wrapped() -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names and lyrics have characters that a terminal may not have
                stream.reconfigure(errors="backslashreplace")
        try:
            main()
        except UserError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            if error.errno not in _WRITING:
                raise
            sys.exit(f"error: {error.filename or 'writing failed'}: {error.strerror}; make room there or name another")

    return wrapped
