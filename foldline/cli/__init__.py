"""The command line: parse, call, print. Knows no models and no files' contents; errors become one sentence each.

Exit codes: 0 all jobs done, 1 some failed, 2 bad input or usage and nothing was run, 3 none succeeded; 130 and 143 when
Ctrl-C or SIGTERM ended the run.
"""

import sys

from foldline.cli.restart import restart_prepared


def start() -> None:
    """The command as a process of its own."""
    restart_prepared()
    main()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; it goes on when nobody reads what it prints."""
    from foldline.cli.app import app
    from foldline.cli.display import print_error
    from foldline.cli.streams import steady_streams
    from foldline.errors import ExitCode, FoldlineError

    with steady_streams() as out:
        try:
            app(args=arguments, prog_name="foldline")
            code = 0
        except SystemExit as end:
            code = end.code
        except FoldlineError as error:
            print_error(error)
            code = ExitCode.BAD_INPUT
    if not code and out.lost is not None and not isinstance(out.lost, BrokenPipeError):
        code = ExitCode.SOME_FAILED
    sys.exit(code)
