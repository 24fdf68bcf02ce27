"""``python -m conversion COMMAND``: the commands, where they are not on the path."""

import sys

from conversion import commands

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in commands.NAMES:
        sys.exit(getattr(commands, sys.argv[1])(sys.argv[2:]))
    print(f"usage: python -m conversion COMMAND ...\n\nCommands: {', '.join(commands.NAMES)}")
    sys.exit(0 if sys.argv[1:2] in (["-h"], ["--help"]) else 2)
